"""ALAE's and MindGAN's released files: what their tensors are called, and reading them into our networks.

The names say little: ALAE's encoder is called ``discriminator`` (E is the trunk of the critic D ∘ E), F ``mapping_fl``
and D ``mapping_tl``; ``_s`` is the moving average, and the mean style, ``dlatent_avg``, has none. Weights have their
true size, so they go into our implicit form as they are. A MindGAN is a chain of linear layers.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from ..errors import CourseError
from ..experts.protocol import freeze
from ..gans.alae import ALAE, MLPALAE, PUBLISHED_ALAE, ALAEConfig, MLPALAEConfig
from ..mind2mind.mindgan import MindConfig, MindCritic, MindGenerator
from .reading import State, read_file
from .strict import Entry, Kind, Layout, blurs, count_below, fill, identify, layout_of, pick

__all__ = ["ALAE_PARTS", "KINDS", "alae_layouts", "load_alae", "load_released_mindgan", "mlp_alae_layouts"]

N = TypeVar("N", bound=nn.Module)

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


def _parts(network: Callable[[], nn.Module]) -> dict[str, dict[str, Entry]]:
    layout = layout_of(network, _RULES)
    parts: dict[str, dict[str, Entry]] = {part: {} for part in ALAE_PARTS}
    for name, entry in layout.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = entry
    return parts


@cache
def alae_layouts(config: ALAEConfig) -> dict[str, dict[str, Entry]]:
    """Part of a file (see :data:`ALAE_PARTS`) → its tensors by released name."""
    parts, channels = _parts(lambda: ALAE(config)), config.channels
    for index in range(len(channels)):
        parts["discriminator"] |= blurs(f"encode_block.{index}.blur", channels[-1 - index])
        parts["generator"] |= blurs(f"decode_block.{index}.blur", channels[index])
    return parts


def mlp_alae_layouts(config: MLPALAEConfig) -> dict[str, dict[str, Entry]]:
    """The same for the version without convolutions, as the authors' branch ``mnist_ref`` writes it."""
    return _parts(lambda: MLPALAE(config))


# --- recognising ----------------------------------------


def _part_sizes(part: str) -> Callable[[State], ALAEConfig]:
    """What one part says about its sizes; the rest is filled in."""

    def sizes(state: State) -> ALAEConfig:
        if part == "mapping_tl":
            return ALAEConfig((1, 1), state["map_blocks.0.weight"].shape[1])
        if part == "mapping_fl":
            layers = sum(name.endswith("fc.bias") for name in state)
            return ALAEConfig((1, 1), state["map_blocks.0.fc.weight"].shape[1], layers)
        if part == "dlatent_avg":
            slots, latent = state["buff"].shape
            return ALAEConfig((1,) * max(2, slots // 2), latent)
        block = "encode_block" if part == "discriminator" else "decode_block"
        channels = tuple(state[f"{block}.{k}.bias_1"].shape[1] for k in range(count_below(state, f"{block}.")))
        latent_out, latent_in = state[f"{block}.0.style_1.weight"].shape
        if part == "generator":
            return ALAEConfig(channels, latent_in, colours=len(state["to_rgb.0.to_rgb.bias"]))
        return ALAEConfig(channels[::-1], latent_out, colours=state["from_rgb.0.from_rgb.weight"].shape[1])

    return sizes


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


_MARKS = {
    "discriminator": "encode_block.0.bias_1",
    "generator": "decode_block.0.bias_1",
    "mapping_tl": "map_blocks.0.weight",
    "mapping_fl": "map_blocks.0.fc.weight",
    "dlatent_avg": "buff",
}


def _places(part: str) -> tuple[str, ...]:
    return (f"{part}_s", part)


def _kind(part: str, plain: bool) -> Kind:
    """Of one part, of the version without convolutions where ``plain``."""
    layouts = mlp_alae_layouts if plain else alae_layouts

    def say(config: ALAEConfig, _: State) -> str:
        layout = layouts(config)[part]
        same = [name for name, known in PUBLISHED_ALAE.items() if layouts(known)[part] == layout]
        return "the sizes of " + (", ".join(same) or "no released model")

    return Kind(
        f"{ALAE_PARTS[part]} of ALAE without convolutions" if plain else f"ALAE's {ALAE_PARTS[part]}",
        "fc_1.weight" if plain and part != "mapping_tl" else _MARKS[part],
        "course_lib.released.alae.load_alae",
        _mlp_sizes if plain else _part_sizes(part),
        lambda config: layouts(config)[part],
        places=_places(part),
        when=lambda state: _mlp_part(state) == (part if plain else None),
        say=None if plain else say,
    )


_PARTS = {part: _kind(part, plain=False) for part in _MARKS}
_MLP_PARTS = {part: _kind(part, plain=True) for part in ("discriminator", "generator", "mapping_tl")}


def _chain_widths(state: State) -> list[int]:
    """Of a MindGAN, which is a chain of linear layers."""
    weights = [state[f"model.{2 * k}.weight"] for k in range(sum(name.endswith("weight") for name in state))]
    return [weights[0].shape[1], *(len(weight) for weight in weights)]


def _chain_layout(widths: list[int]) -> Layout:
    layout = {}
    for index, (inputs, outputs) in enumerate(pairwise(widths)):
        for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
            layout[f"model.{2 * index}.{name}"] = Entry(f"model.{2 * index}.{name}", shape)
    return layout


_MINDGAN = {
    place: Kind(
        f"MindGAN {place.lower()}",
        "model.0.weight",
        "course_lib.released.alae.load_released_mindgan",
        _chain_widths,
        _chain_layout,
        places=(place,),
        # The critic ends in one score.
        when=lambda state, scores=place == "Critic": (
            all(one.startswith("model.") for one in state) and (list(state.values())[-1].numel() == 1) == scores
        ),
        say=lambda widths, _: " → ".join(map(str, widths)),
    )
    for place in ("Generator", "Critic")
}
KINDS = (*_PARTS.values(), *_MLP_PARTS.values(), *_MINDGAN.values())


# --- loading ----------------------------------------


def load_alae(path: str | Path, config: ALAEConfig | str | None = None, averaged: bool = True) -> ALAE | MLPALAE:
    """A released ALAE, frozen; the version without convolutions is told by its tensors.

    Args:
        path: a torch file with ``models``, or ``.safetensors`` with names such as ``generator/const``.
        config: what it must fit, or a name in ``PUBLISHED_ALAE``; None reads the sizes off it.
        averaged: the moving averages where the file has them, as the authors draw and encode.
    """
    if isinstance(config, str) and config not in PUBLISHED_ALAE:
        raise CourseError(f"There is no released ALAE {config!r}: choose of {', '.join(PUBLISHED_ALAE)}.")
    contents = read_file(path)
    plain = any(identify(state)[0] in _MLP_PARTS.values() for state in contents.parts.values())
    kinds = _PARTS | (_MLP_PARTS if plain else {})
    places = {part: _places(part) if averaged else (part,) for part in kinds}
    if plain and not {"dlatent_avg"} & set(contents.parts):
        del kinds["dlatent_avg"]  # some revisions keep no mean style
    states = {part: pick(contents, kind, places[part]) for part, kind in kinds.items()}
    if plain:
        return _load_mlp(states)
    one, mapping = (kinds[part].fit(states[part])[0] for part in ("generator", "mapping_fl"))
    config = PUBLISHED_ALAE[config] if isinstance(config, str) else config
    network = ALAE(config or ALAEConfig(one.channels, one.latent, mapping.mapping, one.colours))
    return _filled(network, states, alae_layouts(network.config))


def _load_mlp(states: dict[str, dict[str, Tensor]]) -> MLPALAE:
    one, layers = _mlp_sizes(states["generator"]), sum(name.endswith("fc.bias") for name in states["mapping_fl"])
    network = MLPALAE(MLPALAEConfig(one.latent, one.hidden, layers, one.size))
    if "dlatent_avg" in states:
        # There is a mean for each of the style-based version's slots, all alike.
        states["dlatent_avg"] = {name: tensor[:1] for name, tensor in states["dlatent_avg"].items()}
    return _filled(network, states, mlp_alae_layouts(network.config))


def _filled(network: N, states: dict[str, dict[str, Tensor]], layouts: dict[str, dict[str, Entry]]) -> N:
    for part, state in states.items():
        fill(network, state, layouts[part], f"{ALAE_PARTS[part]} of this ALAE")
    return freeze(network)


def load_released_mindgan(path: str | Path) -> tuple[MindGenerator, MindCritic]:
    """Generator and critic of a MindGAN's file (``Generator``, ``Critic``), frozen.

    The codes are those of one ALAE file, ``model_submitted`` at 1024 pixels; another one decodes them to something
    else.
    """
    contents = read_file(path)
    ((noise, *drawn, latent), state), ((_, *scored, _), other) = (
        kind.fit(pick(contents, kind))[:2] for kind in _MINDGAN.values()
    )
    config = MindConfig(latent, noise, tuple(drawn), tuple(scored))
    generator, critic = MindGenerator(config), MindCritic(config)
    fill(generator, state, layout_of(generator), "this MindGAN generator")
    fill(critic, other, layout_of(critic), "this MindGAN critic")
    return freeze(generator), freeze(critic)
