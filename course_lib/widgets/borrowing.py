"""Who borrows from whom: the scores of a class transfer as a heat map that a human can read."""

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor

from ..errors import CourseError
from ..figures import COLOURS, new_figure

__all__ = ["borrowing_map", "reading_order"]


def reading_order(scores: Tensor, columns: int = 26) -> tuple[list[int], list[int]]:
    """Rows and columns in the order that makes the map readable.

    New classes that borrow alike stand together (average linkage of the rows' correlation). Of the old classes only the
    most used are kept, each below the new class that uses it most, so that strong entries lie near the diagonal.

    Args:
        scores: ``(N_new, N_old)``, signed.
        columns: number of old classes kept.

    Returns:
        Indices of rows and of the kept columns, as they are to be drawn.

    Raises:
        CourseError: not a matrix, or values that are not finite.
    """
    if scores.ndim != 2 or not scores.isfinite().all():
        raise CourseError(f"the map needs finite scores (new classes, old classes), not {tuple(scores.shape)}.")
    scores = scores.detach().double().cpu()
    rows = list(range(len(scores)))
    if len(rows) > 2:
        centred = scores - scores.mean(1, keepdim=True)
        unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
        rows = leaves_list(linkage(unit.numpy(), "average", optimal_ordering=True)).tolist()
    strength = scores.abs()
    kept = strength.amax(0).argsort(descending=True)[:columns].tolist()
    place = {row: position for position, row in enumerate(rows)}
    owner = strength.argmax(0).tolist()
    kept.sort(key=lambda column: (place[owner[column]], -strength[owner[column], column].item()))
    return rows, kept


def borrowing_map(scores: Tensor, new: list[str], old: list[str], columns: int = 26, written: int = 3) -> Figure:
    """Rows are new classes, columns the old classes that are used most; blue lends, orange is subtracted.

    Args:
        scores: ``(len(new), len(old))``, signed.
        new, old: names of the classes.
        columns: number of old classes shown.
        written: how many of each row's largest entries carry their number, so that colour is not the only carrier.

    Raises:
        CourseError: names that do not fit the scores.
    """
    if tuple(scores.shape) != (len(new), len(old)):
        raise CourseError(f"{len(new)} new and {len(old)} old names do not fit scores of {tuple(scores.shape)}.")
    rows, kept = reading_order(scores, columns)
    shown = scores.detach().float().cpu()[rows][:, kept]
    figure, (axes,) = new_figure(1.6 + 0.36 * len(kept), 1.5 + 0.27 * len(rows))
    limit = max(shown.abs().max().item(), 1e-12)
    colours = LinearSegmentedColormap.from_list("borrowed", [COLOURS[1], "white", COLOURS[0]])
    image = axes.imshow(shown, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    axes.set_yticks(range(len(rows)), [new[row] for row in rows], fontsize=8)
    axes.set_xticks(range(len(kept)), [old[column] for column in kept], fontsize=8, rotation=55, ha="right")
    axes.grid(False)
    for y, row in enumerate(shown):
        for x in row.abs().topk(min(written, len(kept))).indices.tolist():
            dark = row[x].abs() > 0.6 * limit
            text = f"{row[x]:.2f}".replace("0.", ".", 1)
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01, label="score (0: nothing borrowed)")
    axes.set(xlabel="old class that lends", ylabel="new class")
    return figure
