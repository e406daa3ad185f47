"""Scalars and picture grids for TensorBoard."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from ..errors import CourseError

__all__ = ["Board"]


class Board:
    """A TensorBoard writer that does nothing without a folder.

    Args:
        folder: run folder or None.
        step: first step that will be logged; points that an interrupted run logged from there on are hidden.

    Raises:
        CourseError: the folder cannot be written.
    """

    def __init__(self, folder: Path | None, step: int = 0):
        self.writer = None
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            try:
                self.writer = SummaryWriter(str(folder), purge_step=step)
            except OSError as error:
                raise CourseError(
                    f"{folder} cannot be written ({error.strerror}): free some space or choose another folder."
                ) from error

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Adds one point to each curve."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def pictures(self, name: str, make: Callable[[], Tensor | None], step: int) -> None:
        """Adds a grid of pictures ``(N, 3, S, S)`` in [−1, 1]; ``make`` is only called where someone listens."""
        if self.writer is None:
            return
        pictures = make()
        if pictures is not None:
            from torchvision.utils import make_grid

            self.writer.add_image(name, make_grid(pictures.clamp(-1, 1).cpu() / 2 + 0.5, nrow=8), step)

    def close(self) -> None:
        """Writes what is buffered."""
        if self.writer is not None:
            self.writer.close()
