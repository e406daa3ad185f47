"""Strict loading: tensors fit their network exactly, or every difference is named at once."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import CourseError
from .reading import Contents, State, read_file

__all__ = [
    "Entry",
    "Kind",
    "Layout",
    "blurs",
    "check_state",
    "export_state",
    "identify",
    "layout_of",
    "load_state",
]
__all__ += ["pick", "reading_sizes", "register", "take"]

N = TypeVar("N", bound=nn.Module)
_SHOWN = 40
_COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Entry:
    """One tensor of a released network.

    Attributes:
        ours: its name in our ``state_dict()``; None for the fixed blur kernels that the files carry and ours compute.
        shape: its shape in the file: the same numbers in the same order as ours.
        dtype: its dtype in the file. Any floating-point type does for another one.
    """

    ours: str | None
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32


Layout = Mapping[str, Entry]
"""Released name → :class:`Entry`."""


def layout_of(network: nn.Module, rules: Sequence[tuple[str, str]] = ()) -> dict[str, Entry]:
    """Of a network whose tensors have the released shapes; one on the ``meta`` device does.

    Args:
        network: ours.
        rules: patterns in our names and what stands for them in released ones, one after the other; none where they
            are the same.
    """
    layout = {}
    for name, tensor in network.state_dict().items():
        released = name
        for pattern, replacement in rules:
            released = re.sub(pattern, replacement, released)
        layout[released] = Entry(name, tuple(tensor.shape), tensor.dtype)
    return layout


def blurs(place: str, channels: int, names: Sequence[str] = ("weight",)) -> dict[str, Entry]:
    """The fixed blur kernels of one layer."""
    return {f"{place}.{name}": Entry(None, (channels, 1, 3, 3)) for name in names}


def check_state(state: State, layout: Layout, what: str) -> None:
    """Compares tensors with what a network wants.

    Counters of BatchNorm batches may be absent, as in files from before torch had them: an evaluated network never
    reads them.

    Args:
        state: tensors by released name.
        layout: what is wanted.
        what: the network, for the message.

    Raises:
        CourseError: names are missing or unknown, shapes or kinds of number differ (up to 40 differences are listed),
            or a blur kernel is not the binomial filter.
    """
    problems = [f"missing {name}" for name in layout if name not in state and not name.endswith(_COUNTER)]
    problems += [f"unknown {name}" for name in state if name not in layout]
    for name, entry in layout.items():
        found = state.get(name)
        if found is None:
            continue
        if tuple(found.shape) != entry.shape:
            problems.append(f"{name} has shape {tuple(found.shape)} instead of {entry.shape}")
        elif found.is_floating_point() != entry.dtype.is_floating_point:
            problems.append(f"{name} has dtype {found.dtype} instead of {entry.dtype}")
        elif (
            entry.ours is None and not found.is_meta and (found.float() - _blur_kernels(len(found))).abs().max() > 1e-6
        ):
            problems.append(f"{name} is not the binomial filter")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CourseError(
            f"The checkpoint does not fit {what}; correct the config or choose another file. "
            f"Differences ({len(problems)}): " + "; ".join(problems[:_SHOWN]) + more + "."
        )


def _blur_kernels(channels: int) -> Tensor:
    """``(channels, 1, 3, 3)``: the binomial filter once a channel."""
    line = torch.tensor([1.0, 2.0, 1.0])
    return (line[:, None] * line / 16).expand(channels, 1, 3, 3).clone()


@torch.no_grad()
def load_state(network: N, state: State, layout: Layout, what: str) -> N:
    """Fills a network, which shares no memory with the file afterwards; all tensors or none.

    Args:
        network: in memory, or on the ``meta`` device: then it gets its memory here, on the CPU. Only tensors that
            ``layout`` names are written.
        state, layout, what: see :func:`check_state`.

    Raises:
        CourseError: as there.
    """
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


def take(state: State, prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


@contextmanager
def reading_sizes(of: str) -> Iterator[None]:
    """Around code that reads a network's sizes off its tensors: what is absent or odd becomes one sentence.

    Raises:
        CourseError: a tensor that tells a size is missing or has another number of dimensions.
    """
    try:
        yield
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise CourseError(
            f"The sizes of {of} cannot be read off this checkpoint ({error}): give a file that holds one, or pass its "
            "config."
        ) from error


@dataclass(frozen=True)
class Kind:
    """A network that released files hold, recognised by a tensor that only it has.

    Attributes:
        name: what it is called.
        mark: name of that tensor.
        call: what opens it.
        sizes: reads its configuration off the tensors.
        layout: configuration → the tensors it must have.
        published: configurations of released files by name.
        places: under which keys its files hold it.
        when: what must hold beside the mark.
        drop: beginnings of names that are left out → what they are.
        say: words on a configuration and its tensors.
    """

    name: str
    mark: str
    call: str
    sizes: Callable[[State], Any]
    layout: Callable[[Any], Layout]
    published: Mapping[str, Any] = field(default_factory=dict)
    places: tuple[str, ...] = ()
    when: Callable[[State], bool] = lambda state: True
    drop: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    say: Callable[[Any, State], str] | None = None

    def fits(self, state: State) -> bool:
        """Whether tensors are of this kind, by what only it has."""
        try:
            return self.mark in state and self.when(state)
        except (KeyError, IndexError, TypeError):  # the mark of another network, with other shapes
            return False

    def fit(self, state: State, config: Any = None) -> tuple[Any, dict[str, Tensor], tuple[str, ...]]:
        """Checks tensors against a configuration.

        Args:
            state: tensors by name.
            config: what they must fit, or the name of a published one; None reads it off them.

        Returns:
            The configuration, the tensors that belong to it, and notes on what was left out.

        Raises:
            CourseError: there is no configuration of that name, none can be read off, or the tensors do not fit.
        """
        if isinstance(config, str):
            if config not in self.published:
                raise CourseError(
                    f"There is no released {self.name} {config!r}: choose of {', '.join(self.published)}."
                )
            config = self.published[config]
        if config is None:
            with reading_sizes(f"a {self.name}"):
                config = self.sizes(state)
        notes: tuple[str, ...] = ()
        for prefixes, text in self.drop.items():
            kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
            if left := len(state) - len(kept):
                notes += (f"left out {left} tensors of {text}",)
            state = kept
        check_state(state, self.layout(config), f"this {self.name}")
        return config, dict(state), notes


_KINDS: list[Kind] = []


def register(*kinds: Kind) -> None:
    """Makes networks known to :func:`identify`."""
    _KINDS.extend(kinds)


def identify(state: State) -> tuple[Kind | None, dict[str, Tensor]]:
    """What a state dictionary is, and its tensors by the network's own names.

    A prefix that all names share, such as ``module.`` (data parallelism) or ``model.`` (a wrapper), is left out where
    the network is not known with it.
    """
    bare = dict(state)
    while True:
        kind = next((kind for kind in _KINDS if kind.fits(bare)), None)
        heads = {name.partition(".")[0] for name in bare}
        if kind or len(heads) != 1 or not all("." in name for name in bare):
            return kind, bare if kind else dict(state)
        bare = {name.partition(".")[2]: tensor for name, tensor in bare.items()}


def pick(file: str | Path | Contents, kind: Kind, places: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """The tensors of one network in a file.

    Args:
        file: path, or what was read of it.
        kind: which network.
        places: under which keys, the wanted one first; by default all of ``kind.places``. Under a key that says
            nothing it is found by its tensors, if there is one alone.

    Raises:
        CourseError: the file cannot be read, or holds none; what it does hold is said.
    """
    contents = file if isinstance(file, Contents) else read_file(file)
    found = {place: identify(state) for place, state in contents.parts.items()}
    places = kind.places if places is None else places
    named = [place for place in places if place in found]
    others = [place for place, (known, _) in found.items() if known is kind and place not in kind.places]
    if not named and not others and len(found) == 1 and not set(found) & set(kind.places):
        # Not recognised: if it is a damaged one, the differences will be listed.
        others = [place for place, (known, _) in found.items() if known is None]
    chosen = named[:1] or others
    if len(chosen) == 1 and found[chosen[0]][0] in (kind, None):
        return found[chosen[0]][1]
    held = [f"{k.name if k else 'tensors of no known network'}{f' ({p})' if p else ''}" for p, (k, _) in found.items()]
    openers = dict.fromkeys(k.call for k, _ in found.values() if k)
    wanted = f" ({' or '.join(places)})" if places else ""
    raise CourseError(
        f"{contents.path.name} holds {', '.join(held) or 'no tensors by name'}, not one {kind.name}{wanted}: "
        + (f"open it with {', '.join(openers)}." if openers and kind.call not in openers else "choose another file.")
    )
