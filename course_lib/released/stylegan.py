"""The base model of Hyper-Modulation: StyleGAN's PyTorch port, read into ours and written back."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from course_lib.errors import CourseError
from course_lib.experts.protocol import freeze
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.gans.stylegan_critic import StyleGANCritic
from course_lib.released.parts import pick_part, read_parts
from course_lib.released.renamed import export_renamed, load_renamed
from course_lib.released.strict import reading_sizes
from course_lib.released.stylegan_names import critic_layout, stylegan_layout

__all__ = [
    "export_critic",
    "export_stylegan",
    "infer_critic_config",
    "infer_stylegan_config",
    "load_stylegan",
    "load_stylegan_critic",
]

_FUSED_FROM = 128
"""Side in pixels from which the port fuses resampling and convolution."""


def infer_stylegan_config(state: Mapping[str, Tensor]) -> StyleGANConfig:
    """Reads the sizes off a generator's tensors, base or hyper-modulated; the critic is taken to be as wide.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a StyleGAN"):
        blocks = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("generator.to_rgb."))
        channels = tuple(state[f"generator.to_rgb.{k}.conv.weight_orig"].shape[1] for k in range(blocks))
        latent = state["style.1.linear.weight_orig"].shape[0]
        mapping = sum(name.startswith("style.") and name.endswith("weight_orig") for name in state)
        return StyleGANConfig(channels, channels, latent, mapping, _FUSED_FROM)


def infer_critic_config(state: Mapping[str, Tensor]) -> tuple[StyleGANConfig, int, bool]:
    """Sizes, number of classes (0: the base model's one score), and whether an activation follows from-RGB.

    Raises:
        CourseError: a tensor that tells a size is missing.
    """
    with reading_sizes("a StyleGAN discriminator"):
        activated = "from_rgb.0.0.conv.bias" in state
        place = "from_rgb.{}.0.conv.bias" if activated else "from_rgb.{}.conv.bias"
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("from_rgb."))
        channels = tuple(len(state[place.format(k)]) for k in reversed(range(blocks)))
        classes = len(state["final.conv.bias"]) if "final.conv.bias" in state else 0
        return StyleGANConfig(channels, channels, fused_from=_FUSED_FROM), classes, activated


def load_stylegan(path: str | Path, config: StyleGANConfig | None = None, averaged: bool = True) -> StyleGAN:
    """Reads a base generator.

    A file of 256 pixels holds all nine blocks, of which the last two are untrained: draw with ``size=256``.

    Args:
        path: a torch file with ``g_running`` and ``generator``, or one with a bare state dictionary.
        config: what it must fit, for example ``FFHQ1024``; None reads the sizes off it.
        averaged: the exponential moving average ``g_running``, which is what the authors draw with.

    Returns:
        The generator, frozen.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state = pick_part(read_parts(path), ("g_running",) if averaged else ("generator",), path)
    network = StyleGAN(config or infer_stylegan_config(state))
    load_renamed(network, state, stylegan_layout(network.config), "this StyleGAN generator")
    return freeze(network)


def load_stylegan_critic(path: str | Path) -> StyleGANCritic:
    """Reads a discriminator, of the base model or of Hyper-Modulation (one score a class), frozen.

    Raises:
        CourseError: the file cannot be read or does not fit, or its network has no activation after from-RGB: files
            from before September 2019, which score differently.
    """
    state = pick_part(read_parts(path), ("discriminator",), path)
    config, classes, activated = infer_critic_config(state)
    if not activated:
        raise CourseError(
            f"{Path(path).name} is from before September 2019, when no activation followed from-RGB, and scores "
            "differently: take a newer file."
        )
    network = StyleGANCritic(config, max(classes, 1))
    load_renamed(network, state, critic_layout(config, classes), "this StyleGAN discriminator")
    return freeze(network)


def export_stylegan(network: StyleGAN) -> dict[str, Tensor]:
    """A generator's tensors under their released names."""
    return export_renamed(network, stylegan_layout(network.config))


def export_critic(network: StyleGANCritic, classes: int = 0) -> dict[str, Tensor]:
    """A discriminator's tensors under their released names; ``classes`` as in :func:`critic_layout`.

    Raises:
        CourseError: the network has another number of scores.
    """
    if len(network.head.bias) != max(classes, 1):
        raise CourseError(f"this critic has {len(network.head.bias)} scores, not {max(classes, 1)}.")
    return export_renamed(network, critic_layout(network.config, classes))
