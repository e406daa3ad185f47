"""What a file of Hyper-Modulation, ALAE or MindGAN holds: each network in it is recognised by a name only it has."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from course_lib.gans.alae_config import PUBLISHED_ALAE, ALAEConfig
from course_lib.gans.stylegan import FFHQ1024
from course_lib.released.alae import ALAE_PARTS, alae_layouts
from course_lib.released.hyper_names import HyperSizes, class_layout, hyper_layout
from course_lib.released.parts import Parts
from course_lib.released.renamed import shapes_of
from course_lib.released.strict import Layout, check_state, reading_sizes
from course_lib.released.stylegan import infer_critic_config, infer_stylegan_config
from course_lib.released.stylegan_names import critic_layout, stylegan_layout

__all__ = ["describe_gans", "known_parts"]

State = Mapping[str, Tensor]


def _stylegan(state: State) -> tuple[Layout, str]:
    config = infer_stylegan_config(state)
    return shapes_of(stylegan_layout(config)), f"{config.size} pixels" + _like_ffhq(config.channels)


def _hyper(state: State) -> tuple[Layout, str]:
    config = infer_stylegan_config(state)
    with reading_sizes("the heads"):
        width = state["generator.progression.0.conv2.task.linear.weight_orig"].shape[1]
    return shapes_of(hyper_layout(HyperSizes(config, width))), f"{config.size} pixels" + _like_ffhq(config.channels)


def _critic(state: State) -> tuple[Layout, str]:
    config, classes, activated = infer_critic_config(state)
    text = f"{config.size} pixels, " + (f"{classes} classes" if classes else "one score")
    old = "" if activated else ", from before September 2019 (no activation after from-RGB): cannot be opened"
    return shapes_of(critic_layout(config, classes, activated)), text + old


def _classes(state: State) -> tuple[Layout, str]:
    rows, width = state["task.0.weight_orig"].shape
    layers = sum(name.endswith(".linear.bias") for name in state)
    return shapes_of(class_layout(HyperSizes(FFHQ1024, width, rows, layers))), f"{rows} rows of {width}"


def _like_ffhq(channels: tuple[int, ...]) -> str:
    return ", the sizes of the FFHQ model" if channels == FFHQ1024.channels else ""


def _alae(part: str) -> Callable[[State], tuple[Layout, str]]:
    def fit(state: State) -> tuple[Layout, str]:
        with reading_sizes(f"ALAE's {ALAE_PARTS[part]}"):
            layout = alae_layouts(_alae_config(part, state))[part]
        same = [name for name, config in PUBLISHED_ALAE.items() if alae_layouts(config)[part] == layout]
        return shapes_of(layout), "the sizes of " + (", ".join(same) or "no released model")

    return fit


def _alae_config(part: str, state: State) -> ALAEConfig:
    """What one part of an ALAE says about its sizes; the rest is filled in."""
    if part == "mapping_tl":
        return ALAEConfig((1, 1), state["map_blocks.0.weight"].shape[1])
    if part == "mapping_fl":
        return ALAEConfig((1, 1), state["map_blocks.0.fc.weight"].shape[1], sum(n.endswith("fc.bias") for n in state))
    if part == "dlatent_avg":
        slots, latent = state["buff"].shape
        return ALAEConfig((1,) * (slots // 2), latent)
    block = "encode_block" if part == "discriminator" else "decode_block"
    levels = 1 + max(int(name.split(".")[1]) for name in state if name.startswith(f"{block}."))
    channels = tuple(state[f"{block}.{level}.bias_1"].shape[1] for level in range(levels))
    latent_out, latent_in = state[f"{block}.0.style_1.weight"].shape
    if part == "generator":
        return ALAEConfig(channels, latent_in, colours=len(state["to_rgb.0.to_rgb.bias"]))
    return ALAEConfig(channels[::-1], latent_out, colours=state["from_rgb.0.from_rgb.weight"].shape[1])


def _mindgan(state: State) -> tuple[Layout, str]:
    """A chain of linear layers: whatever its widths, each must read what the one before writes."""
    places = sorted({int(name.split(".")[1]) for name in state if name.startswith("model.")})
    widths = [state[f"model.{places[0]}.weight"].shape[1]] + [len(state[f"model.{k}.bias"]) for k in places]
    layout = {}
    for index in range(len(places)):
        layout[f"model.{2 * index}.weight"] = ((widths[index + 1], widths[index]), torch.float32)
        layout[f"model.{2 * index}.bias"] = ((widths[index + 1],), torch.float32)
    return layout, " → ".join(map(str, widths))


# Network → (a name only it has, how to read its layout and say its sizes, what opens it).
_KINDS: dict[str, tuple[str, Callable[[State], tuple[Layout, str]], str]] = {
    "StyleGAN generator": ("generator.progression.0.conv1.input", _stylegan, "released.load_stylegan"),
    "hyper-modulated generator": ("generator.progression.0.conv1.0.input", _hyper, "hypermod.released.load_released"),
    "class network": ("task.0.weight_orig", _classes, "hypermod.released.load_released"),
    "StyleGAN discriminator": ("progression.0.conv1.0.conv.bias", _critic, "released.load_stylegan_critic"),
    "ALAE's G": ("const", _alae("generator"), "released.load_alae"),
    "ALAE's E": ("encode_block.0.bias_1", _alae("discriminator"), "released.load_alae"),
    "ALAE's F": ("map_blocks.0.fc.weight", _alae("mapping_fl"), "released.load_alae"),
    "ALAE's D": ("map_blocks.0.weight", _alae("mapping_tl"), "released.load_alae"),
    "ALAE's mean style": ("buff", _alae("dlatent_avg"), "released.load_alae"),
    "MindGAN": ("model.0.weight", _mindgan, "mind2mind.load_released"),
}


def _kind(state: State) -> str | None:
    return next((kind for kind, (mark, *_) in _KINDS.items() if mark in state), None)


def known_parts(parts: Parts) -> Parts:
    """Those networks of a file that are recognised."""
    return {name: state for name, state in parts.items() if _kind(state)}


def describe_gans(parts: Parts) -> list[str]:
    """A line for each network, and one on how to open the file.

    Raises:
        CourseError: a network's names or shapes are not exactly right.
    """
    lines, openers = [], []
    for name, state in parts.items():
        kind = _kind(state)
        _, fit, opener = _KINDS[kind]
        layout, sizes = fit(state)
        check_state(state, layout, kind)
        count = sum(tensor.numel() for tensor in state.values())
        lines.append(f"{(name or 'tensors') + ':':15} {kind} ({sizes}): {len(state)} tensors, {count:,} numbers")
        if opener not in openers:
            openers.append(opener)
    where = ", ".join(f"course_lib.{opener}" for opener in openers)
    return [*lines, f"{'fit:':15} all names and shapes as they should be", f"{'open with:':15} {where}"]
