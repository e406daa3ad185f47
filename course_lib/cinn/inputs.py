"""What a flow and its packed copy accept: checks of shapes that say how to fix them, and the noise they start from."""

import torch
from torch import Tensor

from course_lib.cinn.config import FlowConfig
from course_lib.errors import CourseError

__all__ = ["check_vectors", "draw_residual", "prepare_condition"]


def prepare_condition(config: FlowConfig, condition: Tensor, dtype: torch.dtype) -> Tensor:
    """Check a condition and convert it.

    Args:
        config: names ``condition_shape``.
        condition: ``(B, *condition_shape)``; ``(B, K, 1, 1)`` does for ``(K,)``. Integers and booleans are fine.
        dtype: dtype of the network.

    Returns:
        ``(B, *condition_shape)`` in ``dtype``.

    Raises:
        CourseError: the shape does not fit.
    """
    shape = config.condition_shape
    if len(shape) == 1 and condition.dim() == 4 and condition.shape[2:] == (1, 1):
        condition = condition.flatten(1)
    if tuple(condition.shape[1:]) != shape:
        wanted = ", ".join(map(str, ("B", *shape)))
        raise CourseError(
            f"This flow was built for conditions of shape ({wanted}), not {tuple(condition.shape)}: give that shape or "
            "build the flow with another condition_shape."
        )
    return condition.to(dtype)


def check_vectors(config: FlowConfig, x: Tensor, condition: Tensor, what: str) -> None:
    """Check latents or residuals against the flow's size and the number of conditions.

    Raises:
        CourseError: ``x`` is not ``(B, D)``, or there is not one condition for each row.
    """
    if x.dim() != 2 or x.shape[1] != config.dim:
        raise CourseError(
            f"This flow takes {what} of shape (B, {config.dim}), not {tuple(x.shape)}: flatten them, or build the flow "
            "with another dim."
        )
    if x.shape[0] != condition.shape[0]:
        raise CourseError(
            f"There are {x.shape[0]} {what} and {condition.shape[0]} conditions: give one condition for each."
        )


def draw_residual(
    shape: tuple[int, int], temperature: float, generator: torch.Generator | None, like: Tensor
) -> Tensor:
    """Gaussian residuals ``(B, D)`` of standard deviation ``temperature``, on the device and in the dtype of ``like``.

    They are drawn where the generator lives, so one seed gives the same residuals whatever device the flow is on.

    Raises:
        CourseError: the temperature is negative.
    """
    if temperature < 0:
        raise CourseError(f"The temperature is a standard deviation: give 0 or more, not {temperature}.")
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device, dtype=like.dtype).to(like.device) * temperature
