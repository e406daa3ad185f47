"""ALAE's released files: what their tensors are called, and reading them into ours.

The names say little: the encoder is called ``discriminator`` (E is the trunk of the critic D ∘ E), F ``mapping_fl`` and
D ``mapping_tl``; ``_s`` is the moving average, and the mean style, ``dlatent_avg``, has none. Weights have their true
size, so they go into our implicit form as they are.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from course_lib.errors import CourseError
from course_lib.experts.protocol import freeze
from course_lib.gans.alae import ALAE
from course_lib.gans.alae_config import PUBLISHED_ALAE, ALAEConfig
from course_lib.released.parts import pick_part, read_parts
from course_lib.released.renamed import Renamed, export_renamed, load_renamed
from course_lib.released.strict import reading_sizes

__all__ = ["ALAE_PARTS", "alae_layouts", "export_alae", "infer_alae_config", "load_alae"]

ALAE_PARTS = {"discriminator": "E", "generator": "G", "mapping_tl": "D", "mapping_fl": "F", "dlatent_avg": "mean style"}
"""Names of the parts in a file → the paper's."""

_Layout = dict[str, Renamed]


def _layer(released: str, ours: str, weight: tuple[int, ...]) -> _Layout:
    return {
        f"{released}.weight": Renamed(f"{ours}.weight", weight),
        f"{released}.bias": Renamed(f"{ours}.bias", weight[:1]),
    }


def _encoder(config: ALAEConfig) -> _Layout:
    widths, layout = [*config.channels[::-1], config.channels[0]], {}
    for index, width in enumerate(widths[:-1]):
        name = f"from_rgb.{index}.from_rgb"
        layout |= _layer(name, f"encoder.from_rgb.{index}", (width, config.colours, 1, 1))
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        block, ours = f"encode_block.{index}", f"encoder.blocks.{index}"
        layout |= {
            f"{block}.bias_1": Renamed(f"{ours}.bias1", (1, inputs, 1, 1)),
            f"{block}.bias_2": Renamed(f"{ours}.bias2", (1, outputs, 1, 1)),
            f"{block}.conv_1.weight": Renamed(f"{ours}.conv1.weight", (inputs, inputs, 3, 3)),
            f"{block}.blur.weight": Renamed(None, (inputs, 1, 3, 3)),
            f"{block}.conv_2.weight": Renamed(f"{ours}.conv2.weight", (outputs, inputs, 3, 3)),
        }
        layout |= _layer(f"{block}.style_1", f"{ours}.style1", (config.latent, 2 * inputs))
        layout |= _layer(f"{block}.style_2", f"{ours}.style2", (config.latent, 2 * outputs))
    return layout


def _decoder(config: ALAEConfig) -> _Layout:
    layout = {"const": Renamed("generator.decoder.constant", (1, config.channels[0], 4, 4))}
    for level, channels in enumerate(config.channels):
        block, ours = f"decode_block.{level}", f"generator.decoder.blocks.{level}"
        for half in (1, 2):
            for released, name in (("noise_weight", "strength"), ("bias", "bias")):
                layout[f"{block}.{released}_{half}"] = Renamed(f"{ours}.noise{half}.{name}", (1, channels, 1, 1))
        if level:
            shape = (channels, config.channels[level - 1], 3, 3)
            if 4 * 2**level >= config.fused_from:
                shape = (shape[1], shape[0], 3, 3)
            layout[f"{block}.conv_1.weight"] = Renamed(f"{ours}.conv1.weight", shape)
        layout[f"{block}.blur.weight"] = Renamed(None, (channels, 1, 3, 3))
        style = (2 * channels, config.latent)
        layout |= _layer(f"{block}.style_1", f"{ours}.style1.style", style)
        layout[f"{block}.conv_2.weight"] = Renamed(f"{ours}.conv2.weight", (channels, channels, 3, 3))
        layout |= _layer(f"{block}.style_2", f"{ours}.style2.style", style)
    for level, channels in enumerate(config.channels):
        to_rgb = f"generator.decoder.to_rgb.{level}"
        layout |= _layer(f"to_rgb.{level}.to_rgb", to_rgb, (config.colours, channels, 1, 1))
    return layout


def alae_layouts(config: ALAEConfig) -> dict[str, _Layout]:
    """Part of a file (see :data:`ALAE_PARTS`) → its tensors by released name, in the order of the files."""
    d = config.latent
    score, mapping = {}, {}
    for layer, outputs in enumerate((d, d, 2 * d)):
        score |= _layer(f"map_blocks.{layer}", f"score.layers.{layer}", (outputs, d))
    for layer in range(config.mapping):
        mapping |= _layer(f"map_blocks.{layer}.fc", f"generator.mapping.layers.{layer}", (d, d))
    return {
        "discriminator": _encoder(config),
        "generator": _decoder(config),
        "mapping_tl": score,
        "mapping_fl": mapping,
        "dlatent_avg": {"buff": Renamed("generator.mean", (config.slots, d))},
    }


def infer_alae_config(generator: Mapping[str, Tensor], mapping: Mapping[str, Tensor]) -> ALAEConfig:
    """Reads the sizes off the tensors of G and F.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("an ALAE"):
        levels = 1 + max(int(name.split(".")[1]) for name in generator if name.startswith("decode_block."))
        channels = tuple(generator[f"decode_block.{level}.bias_1"].shape[1] for level in range(levels))
        layers = sum(name.endswith(".fc.weight") for name in mapping)
        latent = mapping["map_blocks.0.fc.weight"].shape[0]
        return ALAEConfig(channels, latent, layers, generator["to_rgb.0.to_rgb.bias"].shape[0])


def load_alae(path: str | Path, config: ALAEConfig | str | None = None, averaged: bool = True) -> ALAE:
    """Reads a released ALAE, frozen.

    Args:
        path: a torch file with ``models``, or ``.safetensors`` with names such as ``generator/const``.
        config: what it must fit, or a name in ``PUBLISHED_ALAE``; None reads the sizes off it.
        averaged: the moving averages where the file has them, as the authors draw and encode.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    if isinstance(config, str) and config not in PUBLISHED_ALAE:
        raise CourseError(f"There is no released ALAE {config!r}: choose of {', '.join(PUBLISHED_ALAE)}.")
    parts = read_parts(path)
    states = {name: pick_part(parts, (f"{name}_s", name) if averaged else (name,), path) for name in ALAE_PARTS}
    config = PUBLISHED_ALAE[config] if isinstance(config, str) else config
    network = ALAE(config or infer_alae_config(states["generator"], states["mapping_fl"]))
    for name, layout in alae_layouts(network.config).items():
        load_renamed(network, states[name], layout, f"{ALAE_PARTS[name]} of this ALAE")
    return freeze(network)


def export_alae(network: ALAE) -> dict[str, dict[str, Tensor]]:
    """The tensors under their released names, part by part.

    Raises:
        CourseError: the network has the explicit form of the equalised learning rate, whose weights are not scaled.
    """
    if network.config.explicit:
        raise CourseError("released files hold weights of true size: make the network with explicit=False.")
    return {name: export_renamed(network, layout) for name, layout in alae_layouts(network.config).items()}
