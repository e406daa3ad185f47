"""Strict loading: a checkpoint fits its network exactly, or every difference is named at once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from course_lib.errors import CourseError

__all__ = [
    "SENTENCE_PREFIX",
    "Layout",
    "check_state",
    "drop_sentence_model",
    "drop_training_loss",
    "layout_of",
    "load_exactly",
    "reading_sizes",
    "take",
]

N = TypeVar("N", bound=nn.Module)

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""Name of a tensor → its shape and dtype, in the order of the file."""

_SHOWN = 40
# What the training loss of an autoencoder keeps: a learned variance, LPIPS (VGG16) and a patch critic.
_LOSS_PREFIXES = ("loss.logvar", "loss.perceptual_loss.", "loss.discriminator.")
SENTENCE_PREFIX = "cond_stage_model.model."
_COUNTER = ".num_batches_tracked"


def layout_of(network: nn.Module) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Names, shapes and dtypes of a network's tensors; a network on the ``meta`` device does."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in network.state_dict().items()}


def check_state(state: Mapping[str, Tensor], layout: Layout, what: str) -> None:
    """Compares tensors with what a network wants.

    Args:
        state: tensors by name.
        layout: what is wanted.
        what: the network, for the message.

    Raises:
        CourseError: names are missing or unknown, or shapes or kinds of number differ; up to 40 differences are listed.
    """
    problems = [f"missing {name}" for name in layout if name not in state]
    problems += [f"unknown {name}" for name in state if name not in layout]
    for name, (shape, dtype) in layout.items():
        if name not in state:
            continue
        found = state[name]
        if tuple(found.shape) != shape:
            problems.append(f"{name} has shape {tuple(found.shape)} instead of {shape}")
        elif found.is_floating_point() != dtype.is_floating_point:
            problems.append(f"{name} has dtype {found.dtype} instead of {dtype}")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CourseError(
            f"The checkpoint does not fit {what}; correct the config or choose another file. "
            f"Differences ({len(problems)}): " + "; ".join(problems[:_SHOWN]) + more + "."
        )


@torch.no_grad()
def load_exactly(network: N, state: Mapping[str, Tensor], what: str) -> N:
    """Fills a network that was built on the ``meta`` device.

    Args:
        network: gets its memory here, on the CPU, in the dtypes it was built with.
        state: tensors by the network's own names. Counters of BatchNorm batches may be absent, as in files from before
            torch had them; an evaluated network never reads them.
        what: the network, for the message.

    Returns:
        The same network; it shares no memory with ``state``.

    Raises:
        CourseError: as in :func:`check_state`.
    """
    layout = layout_of(network)
    absent = {name: torch.zeros((), dtype=torch.int64) for name in layout if name.endswith(_COUNTER)}
    state = {**absent, **state}
    check_state(state, layout, what)
    network.to_empty(device="cpu")
    for name, tensor in network.state_dict().items():
        tensor.copy_(state[name])
    return network


def take(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
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
    except (KeyError, ValueError, IndexError) as error:
        raise CourseError(
            f"The sizes of {of} cannot be read off this checkpoint ({error}): give a file that holds one, or pass its "
            "config."
        ) from error


def drop_training_loss(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Leaves out what the training loss of a released autoencoder saved beside it.

    Returns:
        The other tensors, and a note on what was dropped (none where nothing was).
    """
    return _drop(state, _LOSS_PREFIXES, "the training loss (loss.*): perceptual network, critic, learned variance")


def drop_sentence_model(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Leaves out a translator's sentence model, whose tensors are named as the library of its day named them.

    Returns:
        The other tensors, and a note on what was dropped (none where nothing was).
    """
    return _drop(state, (SENTENCE_PREFIX,), f"the sentence model ({SENTENCE_PREFIX}*): open it with SentenceExpert")


def _drop(
    state: Mapping[str, Tensor], prefixes: tuple[str, ...], what: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(prefixes)}
    count = len(state) - len(kept)
    return kept, (f"left out {count} tensors of {what}",) if count else ()
