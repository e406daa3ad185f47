"""Read tensors from a checkpoint file, whatever its suffix says, without executing anything that the file contains.

A torch file holds a pickle, a small program that may name any function. ``torch.load(weights_only=True)`` runs none
that it does not know, but then refuses the whole file: those of Lightning name the classes of their settings, those of
ALAE their running means, those of MindGAN an array. So the pickle is first looked through with ``pickletools``, which
runs nothing, and each class that it makes objects of gets a stand-in that keeps nothing. A file that would call a
function is refused.
"""

import pickle
import pickletools
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CourseError, explain

__all__ = ["Contents", "State", "read_file"]

State = Mapping[str, Tensor]
"""Tensors by name."""

_DEPTH = 3
"""How deep state dictionaries may lie in others."""
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What follows on the protocol in torch files that are not zip archives: all from before torch 1.6."""
_FORMATS = {
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them: only weights of PyTorch are read here",
    b"version https://git-lfs": "the pointer of Git LFS to a file that was not fetched: run `git lfs pull`",
}
# What the readers raise on files that are cut off.
_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError)
_WHOLE = "a whole network as an object, not its tensors: with the authors' code, save its state_dict()"
_VALUES = re.compile(
    r"(torch|numpy|collections|datetime|decimal|fractions|pathlib|argparse|uuid|typing|_codecs|copyreg)\..*"
    r"|_?operator\.getitem|functools\.partial|types\.SimpleNamespace"
    r"|builtins\.(bool|bytearray|bytes|complex|dict|float|frozenset|int|list|object|range|set|slice|str|tuple)"
)
"""What files of weights call to make plain values."""


@dataclass(frozen=True)
class Contents:
    """What is read of a file.

    Attributes:
        parts: place → tensors by name. The place is the key under which a state dictionary lies, the name before a
            slash in flat files (``generator/const``), or "" for a bare one. Optimisers are left out.
        step: how many training steps a Lightning checkpoint says it has behind it.
    """

    path: Path
    parts: dict[str, dict[str, Tensor]]
    step: int | None = None


def read_file(path: str | Path) -> Contents:
    """Reads a file onto the CPU.

    Takes safetensors and torch files, new and old; Lightning checkpoints; state dictionaries inside of others. Torch's
    zip files are mapped, not copied: optimiser states in them cost no memory. Leave the file alone while its tensors
    are in use.

    Raises:
        CourseError: the file is missing, cut off, something else, or would call a function that is not known to do
            nothing but make a value.
    """
    path = Path(path)
    if path.is_dir():
        names = sorted(one.name for one in path.iterdir())
        raise CourseError(f"{path} is a folder: give one file of it ({', '.join(names[:5]) or 'it is empty'}).")
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise CourseError(f"There is no checkpoint to read: {explain(error)}.") from error
    classes: tuple[str, ...] = ()
    # Eight bytes with the length of a JSON header, then that header.
    if start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") < 10**8:
        try:
            content: Any = load_file(path, device="cpu")
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path) from error
    else:
        _check_format(path, start)
        content, classes = _read_torch(path)
    parts: dict[str, dict[str, Tensor]] = {}
    for place, state in _states(content, "", _DEPTH):
        for name, tensor in state.items():
            before, _, rest = name.rpartition("/")
            parts.setdefault(before or place, {})[rest] = tensor
    if not parts:
        raise CourseError(f"{path.name} holds {_without_tensors(content, classes)}.")
    step = content.get("global_step")
    return Contents(path, parts, step if isinstance(step, int) else None)


def _states(content: Any, place: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    # "param_groups": an optimiser, whose tensors have names too.
    if not isinstance(content, Mapping) or "param_groups" in content:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for key, value in content.items() if depth else ():
        yield from _states(value, str(key), depth - 1)


def _without_tensors(content: Any, classes: tuple[str, ...]) -> str:
    """What a file without any tensor by name holds."""
    if any(name.startswith("torch.nn.modules.") for name in classes) and not isinstance(content, Mapping):
        return _WHOLE
    if isinstance(content, Mapping) and "param_groups" in content:
        return "the state of an optimiser and no weights: give the file of the network beside it"
    keys = ", ".join(list(map(str, content))[:5]) if isinstance(content, Mapping) else type(content).__name__
    objects = f"; objects of {', '.join(classes[:5])}" if classes else ""
    return f"no state dictionary ({keys or 'nothing'}{objects}): give a file that maps names to tensors"


# --- what kind of file it is ----------------------------------------


def _damaged(path: Path) -> CourseError:
    return CourseError(
        f"{path.name} is damaged, cut off or no checkpoint ({path.stat().st_size:,} bytes): fetch it again."
    )


def _check_format(path: Path, start: bytes) -> None:
    """Refuses, in one sentence that says what it is, every file that is no torch file."""
    what = next((text for sign, text in _FORMATS.items() if start.startswith(sign)), None)
    if not start:
        what = "empty: fetch it again"
    elif start[257:262] == b"ustar":
        what = "a tar archive: unpack it and give one of its files (torch files that are tar, of 2017, are not read)"
    elif zipfile.is_zipfile(path):
        what = _zip_trouble(path)
    elif what is None and all(byte >= 32 or byte in b"\t\n\r\f" for byte in start):
        text = start.decode("utf-8", "replace").strip()
        if re.match(r"(?i)<(!doctype|html|\?xml)", text):
            title = re.search(r"(?is)<title>(.*?)</title>", text)
            what = f"a web page{f' ({title[1].strip()[:80]})' if title else ''}, not the file that was asked for: "
            what += "the download failed, fetch it again in a browser"
        else:
            what = f"a text that begins with {text[:40]!r}: give a checkpoint"
    if what:
        raise CourseError(f"{path.name} is {what}.")


def _zip_trouble(path: Path) -> str | None:
    """None for a torch file."""
    names = [name for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")]
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript program, not a checkpoint: save the network's state_dict()"
    if any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive: give a file that torch.save wrote"
    shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    return f"a zip archive of other files ({shown or 'none'}): unpack it and give one of them"


# --- torch files ----------------------------------------


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What a torch file holds, and the classes whose objects were left out."""
    zipped = zipfile.is_zipfile(path)
    try:
        uses = _uses(path, zipped)
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        raise _damaged(path) from error
    calls = sorted(name for name, ways in uses.items() if "call" in ways and not _makes_a_value(name))
    if calls:
        raise _refusal(path, ", ".join(calls[:5]))
    stand_ins = [(next((_EMPTY[way] for way in _EMPTY if way in ways), _Nothing), name) for name, ways in uses.items()]
    try:
        with torch.serialization.safe_globals(stand_ins), path.open("rb") as file:
            # By its suffix torch.load would take a path for safetensors.
            named = path.suffix == ".safetensors"
            content = torch.load(file if named else path, "cpu", weights_only=True, mmap=zipped and not named)
    except pickle.UnpicklingError as error:
        if re.search("operand|Can only", str(error)):
            raise CourseError(
                f"{path.name} is a pickle in a form that is not read without running it: write it with torch.save."
            ) from error
        if "persistent" in str(error):
            raise CourseError(f"{path.name} holds {_WHOLE}.") from error
        if re.search("GLOBAL|reduce|unrecognized", str(error)):
            raise _refusal(path, "a name of the operating system") from error
        raise _damaged(path) from error
    except _DAMAGE as error:
        raise _damaged(path) from error
    return content, tuple(sorted(name for name, ways in uses.items() if "new" in ways))


def _refusal(path: Path, names: str) -> CourseError:
    return CourseError(
        f"{path.name} asks to run code while it is read ({names}), so it was refused and nothing of it ran: get the "
        "weights as .safetensors, or as a file that holds only tensors."
    )


def _makes_a_value(name: str) -> bool:
    """Whether a call makes a value or an object of the authors. Whatever it is, it only meets a stand-in."""
    return bool(_VALUES.fullmatch(name)) or (
        name.partition(".")[0] not in sys.stdlib_module_names and name.rpartition(".")[2][:1].isupper()
    )


class _Nothing:
    """Takes the place of an object of a class named in a file; keeps nothing and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        return None


def _empty(kind: type) -> type:
    """The same for classes derived from ``dict`` or ``list``: the reader puts items only into these themselves."""
    return type("_Empty", (), {"__new__": lambda cls, *args, **kwargs: kind()})


_EMPTY = {"item": _empty(OrderedDict), "append": _empty(list)}


def _uses(path: Path, zipped: bool) -> dict[str, set[str]]:
    """Every class and function that a file names → what is done with it or its objects; nothing is run.

    "call" (or made by ``__reduce__``), "new", "item" (of a dictionary), "append" (to a list), "state"; none where it
    is only mentioned.
    """
    uses: dict[str, set[str]] = {}
    if zipped:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", name))
            with archive.open(name) as file:
                _follow(file, uses)
        return uses
    with path.open("rb") as file:
        # Magic number, version, sizes of integers, content, keys of the storages; their bytes follow.
        for _ in range(5 if _TORCH_MAGIC in file.peek(64)[:64] else 1):
            _follow(file, uses)
    return uses


_WAYS = {"REDUCE": "call", "INST": "call", "OBJ": "call", "NEWOBJ": "new", "NEWOBJ_EX": "new", "BUILD": "state"}
_WAYS |= {"SETITEM": "item", "SETITEMS": "item", "APPEND": "append", "APPENDS": "append"}


def _follow(file: IO[bytes], uses: dict[str, set[str]]) -> None:
    """One pickle: a stack that holds the name a thing was made of, or None, in place of the thing."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(file):
        before = opcode.stack_before
        if pickletools.markobject in before:
            mark = len(stack) - 1 - stack[::-1].index(pickletools.markobject)
            below = before.index(pickletools.markobject)
            taken, stack[mark - below :] = [*stack[mark - below : mark], *stack[mark + 1 :]], []
        else:
            first = len(stack) - len(before)
            taken, stack[first:] = stack[first:], []
        made: Any = None
        if opcode.name in ("GLOBAL", "INST"):
            module, name = argument.split(" ", 1)
            module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            made = f"{module}.{name}"
            uses.setdefault(made, set())
        elif opcode.name in _WAYS:
            made = taken[0]
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            made = memo.get(argument)
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif opcode.name == "DUP":
            stack.append(taken[0])
            made = taken[0]
        if opcode.name in _WAYS and isinstance(made, str):
            uses.setdefault(made, set()).add(_WAYS[opcode.name])
        if opcode.stack_after:
            stack.append(pickletools.markobject if opcode.name == "MARK" else made)
