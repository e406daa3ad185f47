"""The settings of Lightning Fabric: device, processes and precision."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import CourseError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["launch", "partial_gradients"]


def launch(accelerator: str, devices: int | None, precision: str) -> "Fabric":
    """Fabric on this process's device; ``torchrun`` says how many processes there are, here and on other machines.

    Raises:
        CourseError: there is no such device or precision.
    """
    if accelerator == "cpu" and precision.startswith("16"):
        # Fabric would take bfloat16 instead, with a warning that scrolls by.
        raise CourseError(f"precision {precision} needs a GPU: use bf16-mixed or 32-true here.")
    # Imported late: it takes longer than everything else in the package, and only training needs it.
    from lightning.fabric import Fabric
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = max(1, int(os.environ.get("WORLD_SIZE", "1")) // local) if "LOCAL_WORLD_SIZE" in os.environ else 1
    devices = devices or local
    strategy = "ddp" if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision, strategy=strategy
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise CourseError(f"training cannot start with these settings: {str(error).splitlines()[0]}") from error
    fabric.launch()
    return fabric


@contextmanager
def partial_gradients() -> Iterator[None]:
    """Lets a method take ``torch.autograd.grad`` through its networks under mixed precision.

    Fabric refuses any backward pass that is not its own, because a loss might miss its scale. Methods use partial
    gradients only to weigh losses; what trains goes through ``fabric.backward``.
    """
    from lightning.fabric import wrappers

    wrappers._in_fabric_backward = True
    try:
        yield
    finally:
        wrappers._in_fabric_backward = False
