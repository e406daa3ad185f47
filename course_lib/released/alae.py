"""ALAE's and MindGAN's released files: what their tensors are called, and reading them into our networks.

ALAE's encoder is called ``discriminator`` (E is the trunk of the critic D ∘ E), F ``mapping_fl`` and D ``mapping_tl``;
``_s`` is the moving average, which the mean style, ``dlatent_avg``, lacks."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from ..experts.protocol import freeze
from ..gans.alae import ALAE, MLPALAE, PUBLISHED_ALAE, ALAEConfig, MLPALAEConfig
from ..mind2mind import MindConfig, MindCritic, MindGenerator
from .reading import Kind, Layout, State, blurs, choose, count_below, fill, identify, layout_of, pick, read_file, take

ALAE_PARTS = {"discriminator": "E", "generator": "G", "mapping_tl": "D", "mapping_fl": "F", "dlatent_avg": "mean style"}
"""Names of the parts in a file → the paper's."""

_RULES = (
    (r"^encoder\.blocks\.", "discriminator/encode_block."),
    (r"^generator\.decoder\.blocks\.", "generator/decode_block."),
    (r"^encoder\.from_rgb\.(\d+)", r"discriminator/from_rgb.\1.from_rgb"),
    (r"^generator\.decoder\.to_rgb\.(\d+)", r"generator/to_rgb.\1.to_rgb"),
    (r"^generator\.decoder\.constant", "generator/const"),
    (r"\.noise(\d)\.strength", r".noise_weight_\1"),
    (r"\.noise(\d)\.bias", r".bias_\1"),
    (r"\.(bias|conv|style)(\d)", r".\1_\2"),
    (r"\.(style_\d)\.style\.", r".\1."),
    (r"^score\.layers\.", "mapping_tl/map_blocks."),
    (r"^generator\.mapping\.layers\.(\d+)", r"mapping_fl/map_blocks.\1.fc"),
    (r"^generator\.mean", "dlatent_avg/buff"),
    # The version without convolutions.
    (r"^encoder\.layers\.(\d)", lambda found: f"discriminator/fc_{int(found[1]) + 1}"),
    (r"^generator\.decoder\.layers\.(\d)", lambda found: f"generator/fc_{int(found[1]) + 1}"),
)


@cache
def alae_layouts(config: ALAEConfig | MLPALAEConfig) -> dict[str, Layout]:
    """Part of a file, see :data:`ALAE_PARTS` → its tensors by released name (those of the branch ``mnist_ref``)."""
    plain = isinstance(config, MLPALAEConfig)
    layout = layout_of(lambda: MLPALAE(config) if plain else ALAE(config), _RULES)
    if not plain:
        for index, (first, last) in enumerate(zip(config.channels, config.channels[::-1], strict=True)):
            layout |= blurs(f"discriminator/encode_block.{index}.blur", last)
            layout |= blurs(f"generator/decode_block.{index}.blur", first)
    return {part: take(layout, f"{part}/") for part in ALAE_PARTS}


def _sizes(state: State) -> ALAEConfig:
    """What one part says; the rest is filled in."""
    if "map_blocks.0.fc.weight" in state:
        layers = sum(name.endswith("fc.bias") for name in state)
        return ALAEConfig((1, 1), state["map_blocks.0.fc.weight"].shape[1], layers)
    if "map_blocks.0.weight" in state:
        return ALAEConfig((1, 1), state["map_blocks.0.weight"].shape[1])
    if "buff" in state:
        slots, latent = state["buff"].shape
        return ALAEConfig((1,) * max(2, slots // 2), latent)
    reads = "encode_block.0.bias_1" in state
    block = "encode_block" if reads else "decode_block"
    channels = tuple(state[f"{block}.{k}.bias_1"].shape[1] for k in range(count_below(state, f"{block}.")))
    latent_out, latent_in = state[f"{block}.0.style_1.weight"].shape
    if reads:
        return ALAEConfig(channels[::-1], latent_out, colours=state["from_rgb.0.from_rgb.weight"].shape[1])
    return ALAEConfig(channels, latent_in, colours=len(state["to_rgb.0.to_rgb.bias"]))


def _mlp_sizes(state: State) -> MLPALAEConfig:
    if "map_blocks.0.weight" in state:
        return MLPALAEConfig(state["map_blocks.0.weight"].shape[1])
    first, last = state["fc_1.weight"], state["fc_3.weight"]
    latent, pixels = sorted((first.shape[1], len(last)))
    return MLPALAEConfig(latent, len(first), size=round(pixels**0.5))


def _mlp_part(state: State) -> str | None:
    """Which part of the version without convolutions: E reads more than it writes, D writes as much as it reads."""
    if "map_blocks.2.weight" in state:
        return "mapping_tl" if len(state["map_blocks.2.weight"]) == state["map_blocks.0.weight"].shape[1] else None
    if "fc_3.weight" in state:
        return "discriminator" if state["fc_1.weight"].shape[1] > len(state["fc_3.weight"]) else "generator"
    return None


def _kind(part: str, mark: str, plain: bool = False) -> Kind:

    def say(config: ALAEConfig, _: State) -> str:
        layout = alae_layouts(config)[part]
        same = [name for name, known in PUBLISHED_ALAE.items() if alae_layouts(known)[part] == layout]
        return "the sizes of " + (", ".join(same) or "no released model")

    return Kind(
        f"{ALAE_PARTS[part]} of ALAE without convolutions" if plain else f"ALAE's {ALAE_PARTS[part]}",
        mark,
        "course_lib.released.alae.load_alae",
        _mlp_sizes if plain else _sizes,
        lambda config: alae_layouts(config)[part],
        places=(f"{part}_s", part),
        when=lambda state: _mlp_part(state) == (part if plain else None),
        say=say if not plain else lambda config, state: "",
    )


_MARKS = {"discriminator": "encode_block.0.bias_1", "generator": "decode_block.0.bias_1", "dlatent_avg": "buff"}
_MARKS |= {"mapping_tl": "map_blocks.0.weight", "mapping_fl": "map_blocks.0.fc.weight"}
_MLP_MARKS = {"discriminator": "fc_1.weight", "generator": "fc_1.weight", "mapping_tl": "map_blocks.0.weight"}
_PARTS = {part: _kind(part, mark) for part, mark in _MARKS.items()}
_MLP_PARTS = {part: _kind(part, mark, plain=True) for part, mark in _MLP_MARKS.items()}


def _mind_kind(network: type[MindGenerator | MindCritic], critic: bool) -> Kind:
    place = "Critic" if critic else "Generator"

    def widths(state: State) -> list[int]:
        weights = [state[f"model.{2 * k}.weight"] for k in range(sum(name.endswith("weight") for name in state))]
        return [weights[0].shape[1], *(len(weight) for weight in weights)]

    def sizes(state: State) -> MindConfig:
        first, *hidden, last = widths(state)
        return MindConfig(first, critic=tuple(hidden)) if critic else MindConfig(last, first, tuple(hidden))

    return Kind(
        f"MindGAN {place.lower()}",
        "model.0.weight",
        "course_lib.released.alae.load_released_mindgan",
        sizes,
        lambda config: layout_of(lambda: network(config)),
        places=(place,),
        # The critic ends in one score.
        when=lambda state: {one[:6] for one in state} == {"model."} and (state[[*state][-1]].numel() == 1) == critic,
        say=lambda _, state: " → ".join(map(str, widths(state))),
    )


_GENERATOR, _CRITIC = _mind_kind(MindGenerator, critic=False), _mind_kind(MindCritic, critic=True)
KINDS = (*_PARTS.values(), *_MLP_PARTS.values(), _GENERATOR, _CRITIC)


def load_alae(path: str | Path, config: ALAEConfig | str | None = None, averaged: bool = True) -> ALAE | MLPALAE:
    """A released ALAE, frozen; the version without convolutions is told by its tensors. ``path`` is a torch file with
    ``models``, or ``.safetensors`` with names such as ``generator/const``; ``config`` what it must fit, or a name in
    ``PUBLISHED_ALAE``, None reads the sizes off it. ``averaged``: the moving averages where the file has them, as the
    authors draw and encode."""
    contents, config = read_file(path), choose(config, PUBLISHED_ALAE, "ALAE")
    plain = any(identify(state)[0] in _MLP_PARTS.values() for state in contents.parts.values())
    kinds = _PARTS | (_MLP_PARTS if plain else {})
    if plain and "dlatent_avg" not in contents.parts:
        del kinds["dlatent_avg"]  # some revisions keep no mean style
    states = {part: pick(contents, kind, kind.places if averaged else (part,)) for part, kind in kinds.items()}
    drawn, mapping = (kinds[part].fit(states[part])[0] for part in ("generator", "mapping_fl"))
    sizes = replace(drawn, mapping=mapping.mapping)
    network = MLPALAE(sizes) if plain else ALAE(config or sizes)
    if plain and "dlatent_avg" in states:
        # There is a mean for each of the style-based version's slots, all alike.
        states["dlatent_avg"] = {name: tensor[:1] for name, tensor in states["dlatent_avg"].items()}
    for part, state in states.items():
        fill(network, state, alae_layouts(network.config)[part], f"{ALAE_PARTS[part]} of this ALAE")
    return freeze(network)


def load_released_mindgan(path: str | Path) -> tuple[MindGenerator, MindCritic]:
    """Generator and critic, frozen; their codes are those of one ALAE file, ``model_submitted`` at 1024 pixels."""
    contents = read_file(path)
    generator, critic = _GENERATOR.load(contents, None, MindGenerator), _CRITIC.load(contents, None, MindCritic)
    generator.config = critic.config = replace(generator.config, critic=critic.config.critic)
    return freeze(generator), freeze(critic)
