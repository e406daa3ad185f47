"""Read tensors from a checkpoint file without executing anything that the file contains."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from course_lib.errors import CourseError

__all__ = ["Checkpoint", "read_checkpoint", "read_content", "read_state_dict"]

# Old Lightning checkpoints mention the classes of their callbacks and settings, those of ALAE the running means that it
# prints, those of MindGAN an array of times. Nothing of these is wanted, but a reader that knows no such class refuses
# the whole file; the names below are answered with an empty stand-in.
_STAND_IN_PREFIXES = ("pytorch_lightning.", "lightning.", "omegaconf.", "typing.Any", "tracker.", "numpy.")


# What the readers raise on files that are cut off or something else entirely.
_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError)


class _StandIn:
    """Takes the place of a class named in a checkpoint; keeps nothing and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_StandIn":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        return None

    def __setstate__(self, state: Any) -> None:
        return None


@dataclass(frozen=True)
class Checkpoint:
    """What is read of a file.

    Attributes:
        state: tensors by name.
        step: how many training steps a Lightning checkpoint says it has behind it.
    """

    state: dict[str, Tensor]
    step: int | None = None


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of :func:`read_checkpoint` by name."""
    return read_checkpoint(path).state


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a state dictionary onto the CPU.

    Takes ``.safetensors``, a torch file that holds a state dictionary, and a Lightning checkpoint (a dictionary with
    ``"state_dict"``). Torch files are read with ``weights_only=True``: a pickle that names any other function or class
    is refused before it can do anything. Torch files in the zip format are mapped, not copied into memory: a Lightning
    checkpoint also holds optimiser states, which here cost nothing. Leave the file alone while its tensors are in use.

    Args:
        path: the file.

    Raises:
        CourseError: the file is missing, damaged, no checkpoint, or holds more than tensors.

    References:
        PyTorch documentation, ``torch.load``, sections on ``weights_only`` and ``mmap``.
    """
    path = Path(path)
    content = read_content(path)
    step = None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        step = content.get("global_step") if isinstance(content.get("global_step"), int) else None
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CourseError(f"{path.name} holds no state dictionary: give a file that maps names to tensors.")
    strays = sorted(str(name) for name, value in content.items() if not isinstance(value, Tensor))
    if strays:
        raise CourseError(f"{path.name} holds entries that are not tensors ({', '.join(strays[:5])}): remove them.")
    return Checkpoint(dict(content), step)


def read_content(path: Path) -> Any:
    """Whatever a file holds, with everything that is not plain data left out, see :func:`read_checkpoint`."""
    if not path.is_file():
        raise CourseError(f"There is no checkpoint {path}: check the path or download the file first.")
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise CourseError(f"{path.name} is damaged or not a safetensors file: fetch it again.") from error


def _read_torch(path: Path) -> Any:
    names = _foreign_names(path)
    strangers = sorted(name for name in names if not name.startswith(_STAND_IN_PREFIXES))
    if strangers:
        raise _refusal(path, ", ".join(strangers[:5]))
    try:
        with torch.serialization.safe_globals([(_StandIn, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise _refusal(path, "names in an old pickle") from error
        raise CourseError(f"{path.name} is damaged or no checkpoint: fetch it again.") from error
    except _DAMAGE as error:
        raise CourseError(f"{path.name} is damaged or no checkpoint: fetch it again.") from error


def _foreign_names(path: Path) -> list[str]:
    """Functions and classes that the file names beyond those of tensors; lists them and calls none."""
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (*_DAMAGE, pickle.UnpicklingError):
        return []


def _refusal(path: Path, names: str) -> CourseError:
    return CourseError(
        f"{path.name} asks to run code while it is read ({names}), so it was refused and nothing of it ran: get the "
        "weights as .safetensors, or as a file that holds only tensors."
    )
