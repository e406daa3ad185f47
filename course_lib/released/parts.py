"""Files that hold several networks side by side: those of Hyper-Modulation, ALAE and MindGAN."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from course_lib.errors import CourseError
from course_lib.released.checkpoint import read_content

__all__ = ["Parts", "find_parts", "pick_part", "read_parts"]

Parts = dict[str, dict[str, Tensor]]
_DEPTH = 2
"""Deeper dictionaries belong to optimisers."""


def read_parts(path: str | Path) -> Parts:
    """The state dictionaries of a file by the name of their network; nothing in the file is executed.

    Optimisers, counters and learning curves are left out. In a flat file, such as every ``.safetensors``, a network's
    name may stand before a slash: ``generator/to_rgb.0.to_rgb.bias``. A bare state dictionary gives one part, called
    ``""``. Files are read as :func:`course_lib.released.read_checkpoint` reads them.

    Raises:
        CourseError: the file is missing, damaged, would run code, or holds no state dictionary.
    """
    path = Path(path)
    parts = find_parts(read_content(path))
    if not parts:
        raise CourseError(f"{path.name} holds no state dictionary: give a file that maps names to tensors.")
    return parts


def find_parts(content: Any) -> Parts:
    """The state dictionaries in what a file holds, as :func:`read_parts` says; none where there are none."""
    parts: Parts = {}
    for name, state in _states(content, "", _DEPTH) if isinstance(content, dict) else ():
        for key, tensor in state.items():
            before, _, rest = key.rpartition("/")
            parts.setdefault(before or name, {})[rest] = tensor
    return parts


def _states(content: Mapping[Any, Any], name: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if content and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        yield name, dict(content)
    elif depth:
        for key, value in content.items():
            if isinstance(value, Mapping):
                yield from _states(value, str(key), depth - 1)


def pick_part(parts: Parts, wanted: tuple[str, ...], path: str | Path) -> dict[str, Tensor]:
    """The first of ``wanted`` that a file has; a file with one bare state dictionary is taken for it.

    Raises:
        CourseError: it has none of them.
    """
    for name in (*wanted, ""):
        if name in parts:
            return parts[name]
    raise CourseError(f"{Path(path).name} holds {', '.join(parts)}, not {' or '.join(wanted)}: choose another file.")
