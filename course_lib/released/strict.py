"""Strict loading: tensors fit their network exactly, or every difference is named at once.

A :class:`Kind` is a network that released files hold, recognised by its tensors; :func:`describe_file` reports on one
and builds nothing.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import CourseError
from .reading import Contents, State, read_file

N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")


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
        more = f"; and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise CourseError(
            f"The checkpoint does not fit {what}; correct the config or choose another file. "
            f"Differences ({len(problems)}): " + "; ".join(problems[:40]) + more + "."
        )


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


def take(state: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The tensors, or entries, whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def count_below(state: State, prefix: str) -> int:
    """How many layers are numbered, from 0, right behind ``prefix``."""
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix))


# --- networks that are known ----------------------------------------


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

        ``config`` is one that they must fit, the name of a published one, or None: it is read off them.
        """
        if isinstance(config, str):
            if config not in self.published:
                raise CourseError(
                    f"There is no released {self.name} {config!r}: choose of {', '.join(self.published)}."
                )
            config = self.published[config]
        state = self.adapt(state)
        try:
            config = self.sizes(state) if config is None else config
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise CourseError(
                f"The sizes of a {self.name} cannot be read off this checkpoint ({error}): give a file that holds one, "
                "or pass its config."
            ) from error
        prefixes, text = self.drop
        kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
        left = len(state) - len(kept)
        check_state(kept, self.layout(config), f"this {self.name}")
        return config, kept, (f"left out {left} tensors of {text}",) if left else ()

    def load(self, file: "str | Path | Contents", config: Any, make: Callable[[Any], N]) -> N:
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


def pick(file: str | Path | Contents, kind: Kind, places: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """The tensors of one network in a file; a CourseError that says what the file does hold, if it has none.

    ``places`` are the keys to look under, the best first; under other keys it is found if there is one alone.
    """
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
    wanted = f" ({' or '.join(places)})" if places else ""
    raise CourseError(
        f"{contents.path.name} holds {', '.join(held)}, not one {kind.name}{wanted}: "
        + (f"open it with {', '.join(openers)}." if openers and kind.call not in openers else "choose another file.")
    )


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


def describe_file(path: str | Path) -> str:
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
        what = f"{kind.name} ({words})" if words else kind.name
        numbers = [tensor.numel() for name, tensor in tensors.items() if name in kept]
        count = f"{len(numbers)} tensors, {sum(numbers):,} numbers"
        lines.append(("tensors" if place in ("", "state_dict") else place, f"{what}: {count}"))
        notes += left
        calls[kind.call] = f'{kind.call}("{contents.path.name}")'
    if not calls:
        names = [name for state in contents.parts.values() for name in state]
        for mark, text in _NOT_OPENED.items():
            if any(name.endswith(mark) for name in names):
                raise CourseError(f"{contents.path.name} is {text}.")
        raise CourseError(
            f"{contents.path.name} holds no weights that the course knows ({', '.join(names[:3])}, …): give a file of "
            "Net2Net, StyleGAN, Hyper-Modulation, BigGAN, cGANTransfer, ALAE or MindGAN."
        )
    lines.append(("fit", "all names and shapes as they should be"))
    with contents.path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    lines += [("hash", _HASHES[digest])] if digest in _HASHES else []
    lines += [] if contents.step is None else [("steps", f"{contents.step:,}")]
    lines += [*(("note", note) for note in notes), *(("open with", call) for call in calls.values())]
    return "\n".join(f"{name + ':':15} {text}" for name, text in lines)
