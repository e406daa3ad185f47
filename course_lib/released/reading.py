"""Read tensors from a checkpoint file, whatever its suffix says, without executing anything that the file contains, and
load them strictly: they fit their network exactly, or every difference is named at once.

A torch file holds a pickle, a small program that may name any function. ``torch.load(weights_only=True)`` refuses a
file with any name that it does not know: the settings of Lightning, ALAE's running means, MindGAN's array. So the
pickle is followed once with a stand-in for every name in it; for the reading itself stand-ins replace what torch does
not know. A file that would call a function is refused. A :class:`Kind` is a network that released files hold,
recognised by its tensors; :func:`describe_file` reports on one and builds nothing."""

import hashlib
import pickle
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import CourseError, explain

File = str | Path
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
    place is the key of a state dictionary, or the name before a slash (``generator/const``). No optimisers."""

    path: Path
    parts: dict[str, dict[str, Tensor]]
    step: int | None = None


def read_file(path: File) -> Contents:
    """Reads safetensors and torch files, new and old, onto the CPU. Leave the file alone while its tensors are in use:
    torch's zip files are mapped, so that optimiser states in them cost no memory.

    A CourseError says if one is missing, cut off, something else, or would call what does more than make a value."""
    path = Path(path)
    if path.is_dir():
        names = ", ".join(sorted(one.name for one in path.iterdir())[:5])
        raise CourseError(f"{path} is a folder: give one file of it ({names or 'it is empty'}).")
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
        what = f"damaged, cut off or no checkpoint ({path.stat().st_size:,} bytes): fetch it again"
        raise CourseError(f"{path.name} is {what}.") from error
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
            what = "a pickle in a form that is not read without running it: write it with torch.save"
            raise CourseError(f"{path.name} is {what}.") from error
        if "persistent" in str(error):
            raise CourseError(f"{path.name} holds {_WHOLE}.") from error
        if re.search("GLOBAL|reduce|unrecognized", str(error)):
            raise CourseError(refused % "a name of the operating system") from error
        raise


N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True)
class Entry:
    """One tensor of a released network."""

    ours: str | None  # its name in our ``state_dict()``; None for the fixed blur kernels, which ours compute
    shape: tuple[int, ...]  # in the file: the same numbers in the same order as ours
    dtype: torch.dtype = torch.float32  # in the file; any floating-point type does for another one


Layout = Mapping[str, Entry]
"""Released name → :class:`Entry`."""


def layout_of(network: nn.Module | Callable[[], nn.Module], rules: Sequence[tuple[str, Any]] = ()) -> dict[str, Entry]:
    """Of ``network``, or of what makes it, then without memory on the ``meta`` device. ``rules`` are patterns in our
    names and what stands for them in released ones, applied one after the other; shapes are the same."""
    if not isinstance(network, nn.Module):
        with torch.device("meta"):
            network = network()
    layout = {}
    for name, tensor in network.state_dict().items():
        released = name
        for pattern, replacement in rules:
            released = re.sub(pattern, replacement, released)
        layout[released] = Entry(name, tuple(tensor.shape), tensor.dtype)
    return layout


def blurs(place: str, channels: int, names: Sequence[str] = ("weight",)) -> dict[str, Entry]:
    """The fixed blur kernels of a layer."""
    return {f"{place}.{name}": Entry(None, (channels, 1, 3, 3)) for name in names}


def _blur_kernels(channels: int) -> Tensor:
    """``(channels, 1, 3, 3)``: the binomial filter once a channel."""
    line = torch.tensor([1.0, 2.0, 1.0])
    return (line[:, None] * line / 16).expand(channels, 1, 3, 3).clone()


def check_state(state: State, layout: Layout, what: str) -> None:
    """A CourseError that lists up to 40 differences, unless tensors are exactly what the network ``what`` wants. The
    counters of BatchNorm, which files from before torch had them lack, may be absent."""
    missing = [name for name in layout if name not in state and not name.endswith(".num_batches_tracked")]
    problems = [f"missing {name}" for name in missing] + [f"unknown {name}" for name in state if name not in layout]
    for name, entry in layout.items():
        if (found := state.get(name)) is None:
            continue
        if tuple(found.shape) != entry.shape:
            problems.append(f"{name} has shape {tuple(found.shape)} instead of {entry.shape}")
        elif found.is_floating_point() != entry.dtype.is_floating_point:
            problems.append(f"{name} has dtype {found.dtype} instead of {entry.dtype}")
        elif entry.ours is None and not (found.is_meta or torch.allclose(found.float(), _blur_kernels(len(found)))):
            problems.append(f"{name} is not the binomial filter")
    if problems:
        shown = "; ".join(problems[:40]) + (f"; and {len(problems) - 40} more" if len(problems) > 40 else "")
        text = f"The checkpoint does not fit {what}; correct the config or choose another file."
        raise CourseError(f"{text} Differences ({len(problems)}): {shown}.")


@torch.no_grad()
def fill(network: N, state: State, layout: Layout, what: str) -> N:
    """Copies the tensors that ``layout`` names into a network, all or none, see :func:`check_state`. One on the
    ``meta`` device gets its memory here, on the CPU."""
    check_state(state, layout, what)
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        network.to_empty(device="cpu")
    ours = network.state_dict()
    for name, entry in layout.items():
        if entry.ours is not None:
            target = ours[entry.ours]
            target.copy_(state[name].reshape(target.shape)) if name in state else target.zero_()
    return network


def export_state(network: nn.Module, layout: Layout) -> dict[str, Tensor]:
    """The tensors under released names, in released shapes and dtypes, for the authors' code: copies on the CPU."""
    ours = network.state_dict()
    return {
        name: _blur_kernels(entry.shape[0])
        if entry.ours is None
        else ours[entry.ours].detach().to("cpu", entry.dtype, copy=True).reshape(entry.shape)
        for name, entry in layout.items()
    }


def take(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors, or entries, whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def count_below(state: State, prefix: str) -> int:
    """How many layers are numbered, from 0, right behind ``prefix``."""
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


# --- networks that are known ----------------------------------------


def choose(config: Any, published: Mapping[str, Any], what: str) -> Any:
    """``config``, or where it is the name of a published one, that; a CourseError says which there are."""
    if isinstance(config, str) and config not in published:
        raise CourseError(f"There is no released {what} {config!r}: choose of {', '.join(published)}.")
    return published[config] if isinstance(config, str) else config


@dataclass(frozen=True)
class Kind:
    """A network that released files hold, recognised by a tensor that only it has."""

    name: str
    mark: str  # name of that tensor
    call: str  # what opens it
    sizes: Callable[[State], Any]  # reads its configuration off the tensors
    layout: Callable[[Any], Layout]  # configuration → the tensors it must have
    published: Mapping[str, Any] = field(default_factory=dict)  # configurations of released files by name
    places: tuple[str, ...] = ()  # under which keys its files hold it, the best first
    when: Callable[[State], bool] = lambda state: True  # what must hold beside the mark
    drop: tuple[tuple[str, ...], str] = ((), "")  # how names of what is left out begin, and what it is
    adapt: Callable[[State], State] = dict  # brings tensors into the form that ``sizes`` and ``layout`` know
    say: Callable[[Any, State], str] = lambda config, state: ""  # words on a configuration and its tensors

    def fits(self, state: State) -> bool:
        """Whether tensors are of this kind, by what only it has."""
        try:
            return self.mark in state and self.when(state)
        except (KeyError, IndexError, TypeError):  # the mark of another network, with other shapes
            return False

    def fit(self, state: State, config: Any = None) -> tuple[Any, dict[str, Tensor], tuple[str, ...]]:
        """Configuration, tensors that belong to it, and notes on what was left out; a CourseError where they differ.

        ``config`` is one that they must fit, the name of a published one, or None: it is read off them."""
        state, config = self.adapt(state), choose(config, self.published, self.name)
        try:
            config = self.sizes(state) if config is None else config
        except (KeyError, ValueError, IndexError, TypeError) as error:
            what = f"The sizes of a {self.name} cannot be read off this checkpoint ({error})"
            raise CourseError(f"{what}: give a file that holds one, or pass its config.") from error
        prefixes, text = self.drop
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
        left = len(state) - len(kept)
        check_state(kept, self.layout(config), f"this {self.name}")
        return config, kept, (f"left out {left} tensors of {text}",) if left else ()

    def load(self, file: File | Contents, config: Any, make: Callable[[Any], N]) -> N:
        """The network that ``make`` makes of the configuration, filled from a file, in evaluation mode."""
        config, state, _ = self.fit(pick(file, self), config)
        return fill(make(config), state, self.layout(config), f"this {self.name}").eval()


@cache
def known_kinds() -> tuple[Kind, ...]:
    """Every network that :func:`identify` knows, in the order in which it asks."""
    modules = (import_module(f".{name}", __package__) for name in ("alae", "biggan", "net2net", "stylegan"))
    return tuple(kind for module in modules for kind in module.KINDS)


def identify(state: State) -> tuple[Kind | None, dict[str, Tensor]]:
    """What a state dictionary is, and its tensors by the network's own names: without prefixes that all names share,
    such as ``module.`` (data parallelism) or ``model.`` (a wrapper)."""
    bare = dict(state)
    while True:
        kind = next((kind for kind in known_kinds() if kind.fits(bare)), None)
        heads = {name.partition(".")[0] for name in bare}
        if kind or len(heads) != 1 or not all("." in name for name in bare):
            return kind, bare if kind else dict(state)
        bare = {name.partition(".")[2]: tensor for name, tensor in bare.items()}


def pick(file: File | Contents, kind: Kind, places: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """The tensors of one network in a file; a CourseError that says what the file does hold, if it has none.

    ``places`` are the keys to look under, the best first; under other keys it is found if there is one alone."""
    contents = file if isinstance(file, Contents) else read_file(file)
    found = {place: identify(state) for place, state in contents.parts.items()}
    places = kind.places if places is None else places
    # Where nothing else is in question, tensors of no known network are taken: the differences will be listed.
    named = [place for place in places if place in found and found[place][0] in (kind, None)]
    others = [place for place, (known, _) in found.items() if known is kind or (len(found) == 1 and known is None)]
    chosen = named[:1] or [place for place in others if place not in kind.places]
    if len(chosen) == 1:
        return found[chosen[0]][1]
    held = [f"{k.name if k else 'tensors of no known network'}{f' ({p})' if p else ''}" for p, (k, _) in found.items()]
    openers = dict.fromkeys(k.call for k, _ in found.values() if k)
    wanted = f"{kind.name} ({' or '.join(places)})" if places else kind.name
    how = f"open it with {', '.join(openers)}" if openers and kind.call not in openers else "choose another file"
    raise CourseError(f"{contents.path.name} holds {', '.join(held)}, not one {wanted}: {how}.")


_HASHES = {
    "a2148cf64807444113fac5eede060d28": "biggan-128.pth",
    "e23db3caa34ac4c4ae922a75258dcb8d": "biggan-256.pth",
    "5c2a6fe765142cbdd9f10f15d65a68b6": "dequantvae-20000.ckpt",
    "db185e0f6791e60d27c00de0f40c376c": "captioning_model_pt16.ckpt",
}
"""MD5 of the files whose hash CompVis/net2net publishes."""
_NOT_OPENED = {
    "lin0.model.1.weight": "LPIPS, a perceptual loss: only the training of an autoencoder needs it",
    "conv2d_1a.conv.weight": "FaceNet, which no released translator uses",
    "main.11.weight": "the patch discriminator of an autoencoder: only its training needs it",
    "embeddings.word_embeddings.weight": "a sentence model: open it with course_lib.experts.SentenceExpert",
}


def describe_file(path: File) -> str:
    """A few lines on a file: what it holds, which released model has its sizes, what is left out, what opens it. A
    CourseError says what the file is, if it holds no network known here, or one that does not fit exactly."""
    contents = read_file(path)
    lines, notes, calls = [("file", contents.path.name)], [], {}
    for place, state in contents.parts.items():
        kind, tensors = identify(state)
        if kind is None:
            continue
        config, kept, left = kind.fit(tensors)
        same = ", ".join(name for name, known in kind.published.items() if known == config)
        words = ", ".join(filter(None, (kind.say(config, tensors), same and f"the sizes of {same}")))
        numbers = [tensor.numel() for name, tensor in tensors.items() if name in kept]
        what = f"{kind.name}{words and f' ({words})'}: {len(numbers)} tensors, {sum(numbers):,} numbers"
        lines.append(("tensors" if place in ("", "state_dict") else place, what))
        notes += left
        calls[kind.call] = f'{kind.call}("{contents.path.name}")'
    if not calls:
        names = [name for state in contents.parts.values() for name in state]
        for mark, text in _NOT_OPENED.items():
            if any(name.endswith(mark) for name in names):
                raise CourseError(f"{contents.path.name} is {text}.")
        text = f"{contents.path.name} holds no weights that the course knows ({', '.join(names[:3])}, …): give a file"
        raise CourseError(f"{text} of Net2Net, StyleGAN, Hyper-Modulation, BigGAN, cGANTransfer, ALAE or MindGAN.")
    lines.append(("fit", "all names and shapes as they should be"))
    with contents.path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    lines += [("hash", _HASHES[digest])] if digest in _HASHES else []
    lines += [] if contents.step is None else [("steps", f"{contents.step:,}")]
    lines += [*(("note", note) for note in notes), *(("open with", call) for call in calls.values())]
    return "\n".join(f"{name + ':':15} {text}" for name, text in lines)
