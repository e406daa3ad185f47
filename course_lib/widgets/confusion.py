"""Confusion tables side by side: what was asked for, and what a classifier sees."""

from collections.abc import Mapping, Sequence

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from ..errors import CourseError
from ..figures import COLOURS, new_figure

__all__ = ["confusion_figure"]


def confusion_figure(tables: Mapping[str, Tensor], classes: Sequence[str], seen: str = "the judge sees") -> Figure:
    """A panel for each table; every field carries its share in words, so that colour is not the only carrier.

    Args:
        tables: title → shares ``(C, C)`` of :func:`course_lib.evaluation.confusion.confusion`.
        classes: names.
        seen: label of the horizontal axis.

    Raises:
        CourseError: a table of another size.
    """
    side = 1.2 + 0.42 * len(classes)
    figure, axes = new_figure(side * len(tables) + 0.3, side, columns=len(tables))
    colours = LinearSegmentedColormap.from_list("share", ["white", COLOURS[0]])
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        if tuple(table.shape) != (len(classes), len(classes)):
            raise CourseError(f"{len(classes)} classes do not fit the table {title!r} of {tuple(table.shape)}.")
        axis.imshow(table, vmin=0, vmax=1, cmap=colours)
        axis.grid(False)
        axis.set_xticks(range(len(classes)), classes, rotation=35, ha="right", fontsize=8)
        axis.set_yticks(range(len(classes)), classes, fontsize=8)
        axis.set(title=title, xlabel=seen)
        for y, row in enumerate(table.tolist()):
            for x, share in enumerate(row):
                shade = "white" if share > 0.55 else "black"
                axis.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=7, color=shade)
    return figure
