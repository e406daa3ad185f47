"""What the tensors of a StyleGAN are called in the PyTorch port that Hyper-Modulation builds on, and in its own files.

Both files hold the same skeleton; they differ in what stands for a convolution, so that is an argument here.
"""

from collections.abc import Callable, Iterator

from course_lib.gans.stylegan import StyleGANConfig
from course_lib.released.renamed import Renamed

__all__ = ["Names", "convolution_names", "critic_layout", "equal_names", "generator_names", "stylegan_layout"]

Names = Iterator[tuple[str, Renamed]]
Convolution = Callable[[str, str, tuple[int, ...], bool], Names]
"""(released place, our place in the generator, shape of the kernel, fused?) → its tensors."""


def equal_names(released: str, ours: str, weight: tuple[int, ...]) -> Names:
    """An equalised layer: PyTorch's hook puts the unscaled weight behind the bias."""
    yield f"{released}.bias", Renamed(f"{ours}.bias", weight[:1])
    yield f"{released}.weight_orig", Renamed(f"{ours}.weight", weight)


def convolution_names(released: str, ours: str, weight: tuple[int, ...], fused: bool) -> Names:
    """A convolution of the base model; fused ones scale their weight without a hook."""
    if not fused:
        yield from equal_names(f"{released}.conv", ours, weight)
        return
    # Only the generator transposes its fused kernels: (inputs, outputs, 3, 3).
    outputs = weight[1] if released.startswith("generator.") else weight[0]
    yield f"{released}.weight", Renamed(f"{ours}.weight", weight)
    yield f"{released}.bias", Renamed(f"{ours}.bias", (outputs,))


def _blur(released: str, channels: int) -> Names:
    for name in ("weight", "weight_flip"):
        yield f"{released}.{name}", Renamed(None, (channels, 1, 3, 3))


def generator_names(config: StyleGANConfig, prefix: str, constant: str, convolution: Convolution) -> Names:
    """A generator's tensors in the order of its files.

    Args:
        config: sizes.
        prefix: of our names.
        constant: what the learned constant is called in its block.
        convolution: names of one convolution.
    """
    before = None
    for index, channels in enumerate(config.channels):
        block, ours = f"generator.progression.{index}", f"{prefix}synthesis.blocks.{index}"
        if before is None:
            yield f"{block}.conv1.{constant}", Renamed(f"{ours}.constant", (1, channels, 4, 4))
        elif 4 * 2**index >= config.fused_from:
            yield from convolution(f"{block}.conv1.0", f"{ours}.conv1", (before, channels, 3, 3), True)
            yield from _blur(f"{block}.conv1.1", channels)
        else:
            yield from convolution(f"{block}.conv1.1", f"{ours}.conv1.conv", (channels, before, 3, 3), False)
            yield from _blur(f"{block}.conv1.2", channels)
        for half in (1, 2):
            if half == 2:
                yield from convolution(f"{block}.conv2", f"{ours}.conv2", (channels, channels, 3, 3), False)
            yield f"{block}.noise{half}.weight_orig", Renamed(f"{ours}.noise{half}.weight", (1, channels, 1, 1))
            style = (2 * channels, config.latent)
            yield from equal_names(f"{block}.adain{half}.style.linear", f"{ours}.adain{half}.style", style)
        before = channels
    for index, channels in enumerate(config.channels):
        to_rgb = f"generator.to_rgb.{index}.conv"
        yield from equal_names(to_rgb, f"{prefix}synthesis.to_rgb.{index}", (3, channels, 1, 1))
    for layer in range(1, 2 * config.mapping, 2):
        square = (config.latent, config.latent)
        yield from equal_names(f"style.{layer}.linear", f"{prefix}mapping.{layer}", square)


def stylegan_layout(config: StyleGANConfig) -> dict[str, Renamed]:
    """All tensors of a base generator by released name, in the order of its files."""
    return dict(generator_names(config, "", "input", convolution_names))


def critic_layout(config: StyleGANConfig, classes: int = 0, activated: bool = True) -> dict[str, Renamed]:
    """All tensors of a discriminator by released name.

    Args:
        config: sizes.
        classes: of Hyper-Modulation's discriminator, which has one score a class; 0 for the base model's one score.
        activated: whether an activation follows from-RGB, as it does since September 2019.
    """
    channels = config.critic[::-1]
    layout: dict[str, Renamed] = {}
    for index, (inputs, outputs) in enumerate(zip(channels, channels[1:], strict=False)):
        block, ours, fused = f"progression.{index}", f"blocks.{index}", config.size >> index >= config.fused_from
        layout |= equal_names(f"{block}.conv1.0.conv", f"{ours}.conv1", (outputs, inputs, 3, 3))
        layout |= _blur(f"{block}.conv2.0", outputs)
        layout |= convolution_names(f"{block}.conv2.1", f"{ours}.conv2", (outputs, outputs, 3, 3), fused)
    last, block = channels[-1], f"progression.{len(channels) - 1}"
    layout |= equal_names(f"{block}.conv1.0.conv", "last.0", (last, last + 1, 3, 3))
    layout |= equal_names(f"{block}.conv2.0.conv", "last.1", (last, last, 4, 4))
    for index, width in enumerate(channels):
        from_rgb = f"from_rgb.{index}.0.conv" if activated else f"from_rgb.{index}.conv"
        layout |= equal_names(from_rgb, f"from_rgb.{index}", (width, 3, 1, 1))
    if classes:
        layout |= equal_names("final.conv", "head", (classes, last, 1, 1))
    else:
        layout |= equal_names("linear.linear", "head", (1, last))
    return layout
