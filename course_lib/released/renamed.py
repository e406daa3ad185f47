"""Released tensors under their own names, and where they go in a network of ours that computes the same function."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.errors import CourseError
from course_lib.released.strict import check_state

__all__ = ["Renamed", "RenamedLayout", "blur_kernels", "export_renamed", "load_renamed", "shapes_of"]


@dataclass(frozen=True)
class Renamed:
    """One tensor of a released network.

    Attributes:
        ours: its name in our ``state_dict()``; None for the fixed blur kernels that the files carry and ours compute.
        shape: its shape in the file; the same numbers in the same order as ours.
    """

    ours: str | None
    shape: tuple[int, ...]


RenamedLayout = Mapping[str, Renamed]
"""Released name → :class:`Renamed`, in the order of the file."""


def shapes_of(layout: RenamedLayout) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """For :func:`course_lib.released.strict.check_state`: every released GAN is float32."""
    return {name: (entry.shape, torch.float32) for name, entry in layout.items()}


def blur_kernels(channels: int) -> Tensor:
    """``(channels, 1, 3, 3)``: the binomial filter once a channel, as it stands in the files."""
    line = torch.tensor([1.0, 2.0, 1.0])
    return (line[:, None] * line / 16).expand(channels, 1, 3, 3).clone()


@torch.no_grad()
def load_renamed(network: nn.Module, state: Mapping[str, Tensor], layout: RenamedLayout, what: str) -> None:
    """Copies released tensors into ``network``, all or none.

    Args:
        network: in memory; only the tensors named in ``layout`` are written.
        state: tensors by released name.
        layout: exactly the names that ``state`` must have.
        what: the network, for the message.

    Raises:
        CourseError: names, shapes or kinds of number differ, or a blur kernel is not the binomial filter.
    """
    check_state(state, shapes_of(layout), what)
    for name, entry in layout.items():
        if entry.ours is None and not torch.allclose(state[name].float(), blur_kernels(entry.shape[0]), atol=1e-6):
            raise CourseError(f"{name} is not the binomial filter that {what} blurs with: take an unchanged file.")
    ours = network.state_dict()
    for name, entry in layout.items():
        if entry.ours is not None:
            ours[entry.ours].copy_(state[name].reshape(ours[entry.ours].shape))


def export_renamed(network: nn.Module, layout: RenamedLayout) -> dict[str, Tensor]:
    """The tensors under their released names and in their released shapes: float32 copies on the CPU."""
    ours = network.state_dict()
    return {
        name: blur_kernels(entry.shape[0])
        if entry.ours is None
        else ours[entry.ours].detach().to("cpu", torch.float32, copy=True).reshape(entry.shape)
        for name, entry in layout.items()
    }
