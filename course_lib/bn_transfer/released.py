"""Opens generators and discriminators in the files of the authors' code, and writes ours as such."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..errors import CourseError
from ..gans import BigGANConfig, Discriminator, Generator
from ..released.biggan import read_transferred, transferred_discriminator_layout, transferred_layout
from ..released.strict import export_state, fill
from .propagation import TransferGenerator

__all__ = ["export_released", "load_released", "load_released_discriminator"]


def load_released(
    path: str | Path, config: BigGANConfig | None = None, base: Generator | None = None
) -> TransferGenerator:
    """A generator that the authors' code trained, in evaluation mode.

    Args:
        path: its file, ``G*.pth`` or the same as ``.safetensors``.
        config: of the generator that was transferred; by default that of ``base``, or what the
            file says.
        base: that generator. The file keeps its tables, but its running statistics went on, and after the second stage
            its convolutions as well: without ``base`` old classes are drawn with those, and are no longer what they
            were.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    config, new, state = read_transferred(path, config or (base.config if base is not None else None))
    variant = "cifar" if config.embedding is None else "imagenet"
    network = TransferGenerator(base or Generator(config).eval(), new, variant)
    fill(network, state, transferred_layout(config, new), "this transferred BigGAN")
    if base is None:
        kept = network.source.state_dict()
        for name, tensor in network.target.state_dict().items():
            if name in kept:
                kept[name].copy_(tensor)
    else:
        # The file's copy of the tables may have been trained along (they shared memory with what was trained).
        network.source.load_state_dict(base.state_dict())
    return network.eval()


def export_released(network: TransferGenerator) -> dict[str, Tensor]:
    """The tensors under the names of the authors' code.

    Raises:
        CourseError: our own variant, which that code cannot compute.
    """
    if network.variant == "additive":
        raise CourseError("the authors' code has no such variant: make the generator with 'imagenet' or 'cifar'.")
    return export_state(network, transferred_layout(network.source.config, network.config.classes))


def load_released_discriminator(path: str | Path, config: BigGANConfig) -> Discriminator:
    """A discriminator that the authors' code trained.

    Args:
        path: its file, ``D*.pth`` or the same as ``.safetensors``.
        config: of the generator that was transferred.

    Raises:
        CourseError: as :func:`load_released`.
    """
    config, new, state = read_transferred(path, config, discriminator=True)
    discriminator = Discriminator(replace(config, classes=new))
    fill(discriminator, state, transferred_discriminator_layout(config, new), "this transferred discriminator")
    return discriminator.eval()
