"""Training state in one safetensors file, written so that a crash at any instant leaves a whole file behind."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CourseError

__all__ = ["atomic_write", "flatten_optimizer", "load_state", "save_state", "unflatten_optimizer", "write_together"]


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls ``write(temporary)`` beside ``path``, flushes to disk, then renames.

    Readers see the old file or the new one, never half of one.

    Raises:
        CourseError: the disk is full or not writable; the old file is untouched and no part is left.
    """
    write_together([(path, write)])


def write_together(files: list[tuple[Path, Callable[[Path], Any]]]) -> None:
    """Like :func:`atomic_write` for files that belong together: all are on the disk before the first is renamed.

    Args:
        files: path and writer of each, in the order in which they are written.

    Raises:
        CourseError: see :func:`atomic_write`.
    """
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path, _ in files]
    name = files[0][0].name
    try:
        for (path, write), part in zip(files, parts, strict=True):
            name = path.name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(part)
            # safetensors makes files that only their owner may read.
            part.chmod(0o644)
            _flush_file(part)
        for (path, _), part in zip(files, parts, strict=True):
            os.replace(part, path)
            _flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CourseError(
            f"{name} could not be written ({reason}): free some space and run again; nothing was overwritten."
        ) from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _flush_file(path: Path) -> None:
    """Waits until the file's content is on the disk; a full one may say so only here."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Makes a rename survive a power cut. Some systems have no such thing for folders; the rename itself is done."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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
