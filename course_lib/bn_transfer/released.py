"""Opens generators and critics in the files of the authors' code, and writes ours as such."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..errors import CourseError
from ..gans import CIFAR32, IMAGENET128, BigGANConfig, Discriminator, Generator
from ..released import read_state_dict
from ..released.renamed import export_renamed, load_renamed
from ..released.strict import reading_sizes
from ..released.transfer_names import critic_layout, transfer_layout
from .generator import TransferGenerator

__all__ = ["export_released", "load_released", "load_released_critic"]


def _config(state: Mapping[str, Tensor]) -> BigGANConfig:
    with reading_sizes("a transferred BigGAN"):
        if "shared.weight" in state:
            return replace(IMAGENET128, classes=len(state["shared.weight"]))
        return replace(CIFAR32, classes=len(state["blocks.0.0.bn1.gain.weight"]))


def load_released(
    path: str | Path, config: BigGANConfig | None = None, base: Generator | None = None
) -> TransferGenerator:
    """A generator that the authors' code trained, in evaluation mode.

    Args:
        path: its file, ``G*.pth`` or the same as ``.safetensors``.
        config: of the generator that was transferred; by default the published one at 128 pixels, or at 32.
        base: that generator. The file keeps its tables, but its running statistics went on, and after the second stage
            its convolutions as well: without ``base`` old classes are drawn with those, and are no longer what they
            were.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    state = read_state_dict(path)
    config = config or (base.config if base is not None else _config(state))
    with reading_sizes("a transferred BigGAN"):
        new = state["blocks.0.0.bn1.res_g.weight"].shape[1]
    variant = "cifar" if config.embedding is None else "imagenet"
    network = TransferGenerator(base or Generator(config).eval(), new, variant)
    load_renamed(network, state, transfer_layout(config, new), "this transferred BigGAN")
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
    if network.variant == "kept":
        raise CourseError("the authors' code has no such variant: make the generator with 'imagenet' or 'cifar'.")
    return export_renamed(network, transfer_layout(network.source.config, network.config.classes))


def load_released_critic(path: str | Path, config: BigGANConfig) -> Discriminator:
    """A critic that the authors' code trained.

    Args:
        path: its file, ``D*.pth`` or the same as ``.safetensors``.
        config: of the generator that was transferred.

    Raises:
        CourseError: as :func:`load_released`.
    """
    state = read_state_dict(path)
    with reading_sizes("a transferred critic"):
        new = len(state["new_embed.weight"])
    critic = Discriminator(replace(config, classes=new))
    load_renamed(critic, state, critic_layout(config, new), "this transferred critic")
    return critic.eval()
