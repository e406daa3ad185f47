"""Read tensors from a checkpoint file, whatever its suffix says, without executing anything that the file contains.

A torch file holds a pickle, a small program that may name any function. ``torch.load(weights_only=True)`` refuses a
file with any name that it does not know: the settings of Lightning, ALAE's running means, MindGAN's array. So the
pickle is followed once with a stand-in for every name in it; for the reading itself stand-ins replace what torch does
not know. A file that would call a function is refused.
"""

import pickle
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

State = Mapping[str, Tensor]
"""Tensors by name."""

_CONTENT = re.compile(r"[^/]+/data\.pkl")  # where torch's zip archives have their pickle
_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What follows on the protocol in torch files that are not zip archives: all from before torch 1.6."""
_FORMATS = {
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them: only weights of PyTorch are read here",
    b"version https://git-lfs": "the pointer of Git LFS to a file that was not fetched: run `git lfs pull`",
}
"""First bytes → what a file is, and what to do with it."""
# What the readers raise on files that are cut off.
_DAMAGE = (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, zipfile.BadZipFile)
_DAMAGE += (SafetensorError, MemoryError, OverflowError)
_WHOLE = "a whole network as an object, not its tensors: with the authors' code, save its state_dict()"
_VALUES = re.compile(
    r"(torch|numpy|collections|datetime|decimal|fractions|pathlib|argparse|uuid|typing|_codecs|copyreg)\..*"
    r"|_?operator\.getitem|functools\.partial|types\.SimpleNamespace"
    r"|builtins\.(bool|bytearray|bytes|complex|dict|float|frozenset|int|list|object|range|set|slice|str|tuple)"
)
"""What files of weights call to make plain values."""


@dataclass(frozen=True)
class Contents:
    """What is read of a file: place → tensors by name, and the training steps that a Lightning checkpoint claims. The
    place is the key of a state dictionary, or the name before a slash (``generator/const``). Optimisers are left out.
    """

    path: Path
    parts: dict[str, dict[str, Tensor]]
    step: int | None = None


def read_file(path: str | Path) -> Contents:
    """Reads safetensors and torch files, new and old, onto the CPU. Leave the file alone while its tensors are in use:
    torch's zip files are mapped, so that optimiser states in them cost no memory.

    A CourseError says if one is missing, cut off, something else, or would call a function that is not known to do
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
    # Safetensors: eight bytes with the length of a JSON header, then that header.
    flat = start[8:9] == b"{" and 0 < int.from_bytes(start[:8], "little") < 10**8
    if not flat and (what := _other_format(path, start)):
        raise CourseError(f"{path.name} is {what}.")
    try:
        content, names = (load_file(path, device="cpu"), ()) if flat else _read_torch(path)
    except (pickle.UnpicklingError, *_DAMAGE) as error:
        raise CourseError(
            f"{path.name} is damaged, cut off or no checkpoint ({path.stat().st_size:,} bytes): fetch it again."
        ) from error
    parts: dict[str, dict[str, Tensor]] = {}
    for place, state in _states(content):
        for name, tensor in state.items():
            before, _, rest = name.rpartition("/")
            parts.setdefault(before or place, {})[rest] = tensor
    if not parts:
        raise CourseError(f"{path.name} holds {_without_tensors(content, names)}.")
    step = content.get("global_step")
    return Contents(path, parts, step if isinstance(step, int) else None)


def _states(content: Any, place: str = "", depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Place and tensors of every state dictionary, as deep in others as ``depth``."""
    # "param_groups": an optimiser, whose tensors have names too.
    if not isinstance(content, Mapping) or "param_groups" in content:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield place, tensors
    for key, value in content.items() if depth else ():
        yield from _states(value, str(key), depth - 1)


def _without_tensors(content: Any, names: tuple[str, ...]) -> str:
    if isinstance(content, Mapping) and "param_groups" in content:
        return "the state of an optimiser and no weights: give the file of the network beside it"
    if not isinstance(content, Mapping) and any(name.startswith("torch.nn.modules.") for name in names):
        return _WHOLE
    held = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else type(content).__name__
    return f"no state dictionary ({held or 'nothing'}): give a file that maps names to tensors"


def _other_format(path: Path, start: bytes) -> str | None:
    """What a file is, and what to do with it; None for a torch file, and for bytes that say nothing."""
    if not start:
        return "empty: fetch it again"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it and give one of its files (torch files that are tar, of 2017, are not read)"
    if zipfile.is_zipfile(path):
        names = [name for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")]
        if any(name.endswith("/constants.pkl") for name in names):
            return "a TorchScript program, not a checkpoint: save the network's state_dict()"
        if any(map(_CONTENT.fullmatch, names)):
            return None
        if names and all(name.endswith(".npy") for name in names):
            return "a NumPy archive: give a file that torch.save wrote"
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        return f"a zip archive of other files ({shown or 'none'}): unpack it and give one of them"
    if what := next((text for sign, text in _FORMATS.items() if start.startswith(sign)), None):
        return what
    if any(byte < 32 and byte not in b"\t\n\r\f" for byte in start):
        return None
    text = start.decode("utf-8", "replace").strip()
    if not re.match(r"(?i)<(!doctype|html|\?xml)", text):
        return f"a text that begins with {text[:40]!r}: give a checkpoint"
    title = re.search(r"(?is)<title>(.*?)</title>", text)
    name = f" ({title[1].strip()[:80]})" if title else ""
    return f"a web page{name}, not the file that was asked for: the download failed, fetch it again in a browser"


class _StandIn:
    """Takes the place of a class or function that a file names: does nothing, and notes what is done with it."""

    called, kind = False, object  # torch's reader puts items only into true dictionaries and lists

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls) if cls.kind is object else cls.kind()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        type(self).called = True  # not so where a pickle makes an object of a class: that is ``__new__`` alone

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        type(self).kind = OrderedDict

    def append(self, item: Any) -> None:
        type(self).kind = list

    extend = append


class _Follower(pickle._Unpickler):
    """Reads a pickle with nothing but stand-ins, which are collected in ``found``; in Python, since in the reader in C
    a number in the file says how much memory is taken."""

    def __init__(self, file: IO[bytes], found: dict[str, type[_StandIn]]):
        super().__init__(file)
        self.found = found

    def find_class(self, module: str, name: str) -> type[_StandIn]:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        return self.found.setdefault(f"{module}.{name}", type("_Named", (_StandIn,), {}))

    def persistent_load(self, pid: Any) -> type[_StandIn]:
        return type("_Stored", (_StandIn,), {})


def _read_torch(path: Path) -> tuple[Any, tuple[str, ...]]:
    """What a torch file holds, and the names in it."""
    zipped = zipfile.is_zipfile(path)
    found: dict[str, type[_StandIn]] = {}
    inside = next(filter(_CONTENT.fullmatch, zipfile.ZipFile(path).namelist())) if zipped else ""
    with zipfile.ZipFile(path).open(inside) if zipped else path.open("rb") as file:
        # Magic number, version, sizes of integers, content, keys of the storages; their bytes follow.
        for _ in range(1 if zipped or _TORCH_MAGIC not in file.peek(64)[:64] else 5):
            _Follower(file, found).load()
    # Classes of the authors begin with a capital letter. Whatever a name means, a call only meets a stand-in.
    foreign = {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names}
    values = {name for name in foreign if name.rpartition(".")[2][:1].isupper()} | set(filter(_VALUES.fullmatch, found))
    calls = sorted(name for name, one in found.items() if one.called and name not in values)
    refused = f"{path.name} asks to run code while it is read (%s), so it was refused and nothing of it ran: get the "
    refused += "weights as .safetensors, or as a file that holds only tensors."
    if calls:
        raise CourseError(refused % ", ".join(calls[:5]))
    # By its suffix torch.load would take a path for safetensors.
    mapped = zipped and path.suffix != ".safetensors"
    try:
        with torch.serialization.safe_globals([(one, name) for name, one in found.items()]), path.open("rb") as file:
            return torch.load(path if mapped else file, "cpu", weights_only=True, mmap=mapped), tuple(found)
    except pickle.UnpicklingError as error:
        if re.search("operand|Can only", str(error)):
            raise CourseError(
                f"{path.name} is a pickle in a form that is not read without running it: write it with torch.save."
            ) from error
        if "persistent" in str(error):
            raise CourseError(f"{path.name} holds {_WHOLE}.") from error
        if re.search("GLOBAL|reduce|unrecognized", str(error)):
            raise CourseError(refused % "a name of the operating system") from error
        raise
