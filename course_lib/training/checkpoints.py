"""Training state in one safetensors file, written so that a crash at any instant leaves a whole file behind."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CourseError

__all__ = ["atomic_write", "flatten_optimizer", "load_state", "save_state", "unflatten_optimizer"]


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls ``write(temporary)`` beside ``path``, flushes to disk, then renames.

    Readers see the old file or the new one, never half of one.

    Raises:
        CourseError: the disk is full or not writable; the old file is untouched and no part is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CourseError(
            f"{path.name} could not be written ({reason}): free some space and run again; nothing was overwritten."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def flatten_optimizer(state: dict) -> tuple[dict[str, Tensor], dict]:
    """An optimiser's ``state_dict`` as named tensors and a JSON part."""
    tensors, plain = {}, {}
    for index, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{slot}"] = value
            else:
                plain[f"{index}/{slot}"] = value
    return tensors, {"plain": plain, "param_groups": state["param_groups"]}


def unflatten_optimizer(tensors: dict[str, Tensor], plain: dict) -> dict:
    """The inverse of :func:`flatten_optimizer`."""
    state: dict[int, dict] = {}
    for name, value in (tensors | plain["plain"]).items():
        index, slot = name.split("/", 1)
        state.setdefault(int(index), {})[slot] = value
    return {"state": state, "param_groups": plain["param_groups"]}


def save_state(path: Path, tensors: dict[str, Tensor], plain: dict) -> None:
    """Writes tensors and JSON-able values atomically to one safetensors file."""
    # safetensors refuses tensors that share memory, and bits survive only in contiguous copies.
    copies = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    atomic_write(path, lambda temporary: save_file(copies, temporary, metadata={"state": json.dumps(plain)}))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Reads what :func:`save_state` wrote.

    Raises:
        CourseError: the file is missing, truncated or of another kind. Nothing in it is ever executed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, plain  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CourseError(f"there is no checkpoint {path}: start without resume=True.") from error
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise CourseError(
            f"{path.name} is truncated or no training checkpoint ({error}): delete it to start again, or restore it."
        ) from error
