"""Activation normalisation: a per-channel affine map that sets itself from the first training batch."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from course_lib.errors import CourseError

__all__ = ["ActNorm"]

_EPSILON = 1e-6


class ActNorm(nn.Module):
    """``y = scale * (x + loc)`` per channel; the first training batch leaves with mean 0 and standard deviation 1.

    After that first batch ``loc`` and ``scale`` are ordinary parameters. In evaluation mode a layer that has not seen
    data is the identity and stays so. Inputs are ``(B, C)`` or ``(B, C, H, W)``.

    Args:
        channels: ``C``.

    References:
        Kingma and Dhariwal, "Glow", 2018, section 3.1; CompVis/net2net for the order of operations (add, then scale).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.loc = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))
        # Reading the buffer on an accelerator waits for the device, so the answer "yes" is remembered on the host.
        self._ready = False

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"channels={self.channels}"

    @property
    def is_initialized(self) -> bool:
        """Whether ``loc`` and ``scale`` were set from data or loaded from a checkpoint that had seen data."""
        if not self._ready and self.initialized.device.type != "meta":
            self._ready = bool(self.initialized.item())
        return self._ready

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._ready = False
        super()._load_from_state_dict(*args, **kwargs)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set ``loc`` and ``scale`` from a batch, over all processes when ``torch.distributed`` runs.

        Every process ends with the same values, those of the joined batch; if each used its own batch, the replicas
        would silently be different networks.

        Args:
            x: ``(B, C)`` or ``(B, C, H, W)``.

        Raises:
            CourseError: a channel has a single value, so it has no standard deviation.
        """
        # Sums in double precision: the variance is a small difference of large numbers when the mean is far from 0.
        values = x.detach().to(_wide_dtype(x)).transpose(0, 1).flatten(1)
        total = torch.cat([values.new_tensor([values.shape[1]]), values.sum(1)])
        _sum_over_processes(total)
        count, mean = total[0], total[1:] / total[0]
        if count < 2:
            raise CourseError(
                "ActNorm sets itself from the first training batch and cannot do so from one sample: "
                "give a first batch of at least 2 samples (32 or more is better)."
            )
        squares = (values - mean[:, None]).square().sum(1)
        _sum_over_processes(squares)
        std = (squares / (count - 1)).sqrt()
        self.loc.copy_(-mean)
        self.scale.copy_(1.0 / (std + _EPSILON))
        self.initialized.fill_(1)
        self._ready = True

    def prepare(self, x: Tensor) -> None:
        """Initialise from ``x`` if this is the first training batch; otherwise do nothing."""
        if self.training and not self.is_initialized:
            self.initialize(x)

    def check_invertible(self) -> None:
        """Refuse an inverse that the next training batch would contradict.

        Raises:
            CourseError: the layer is in training mode and has not seen data.
        """
        if self.training and not self.is_initialized:
            raise CourseError(
                "ActNorm has not seen a batch yet, so its inverse is not defined: call the flow on one training batch "
                "first, load a checkpoint, or switch to eval()."
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise.

        Args:
            x: ``(B, C)`` or ``(B, C, H, W)``.

        Returns:
            ``y`` of the shape of ``x``, and ``log_det: (B,)`` = ``H * W * sum(log|scale|)``, the same for each sample.

        Raises:
            CourseError: the number of channels is wrong, or the first training batch has one value per channel.
        """
        self._check_shape(x)
        self.prepare(x)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        y = self.scale.view(shape) * (x + self.loc.view(shape))
        pixels = x[0, 0].numel() if x.dim() > 2 else 1
        return y, (pixels * self.scale.abs().log().sum()).expand(x.shape[0])

    def inverse(self, y: Tensor) -> Tensor:
        """Undo ``forward``: ``y / scale - loc``.

        Args:
            y: ``(B, C)`` or ``(B, C, H, W)``.

        Raises:
            CourseError: the number of channels is wrong, or see ``check_invertible``.
        """
        self._check_shape(y)
        self.check_invertible()
        shape = (1, -1) + (1,) * (y.dim() - 2)
        return y / self.scale.view(shape) - self.loc.view(shape)

    def _check_shape(self, x: Tensor) -> None:
        if x.dim() not in (2, 4) or x.shape[1] != self.channels:
            raise CourseError(
                f"ActNorm was built for {self.channels} channels: give (B, {self.channels}) or "
                f"(B, {self.channels}, H, W), not {tuple(x.shape)}."
            )


def _wide_dtype(x: Tensor) -> torch.dtype:
    """float64, except on devices that do not have it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _sum_over_processes(values: Tensor) -> None:
    """Add ``values`` over all processes, in place; nothing happens in a single process."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(values)
