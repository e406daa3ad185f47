"""Who borrows from whom: the method as a schematic, and mixing weights as a heat map that a human can read."""

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor

from ..errors import CourseError
from ..figures import COLOURS, new_figure

__all__ = ["borrowing_map", "propagation_schematic", "reading_order"]


def reading_order(weights: Tensor, columns: int = 26) -> tuple[list[int], list[int]]:
    """Rows and columns in the order that makes the map readable.

    New classes that borrow alike stand together (average linkage of the rows' correlation). Of the old classes only the
    most used are kept, each below the new class that uses it most, so that strong entries lie near the diagonal.

    Args:
        weights: ``(N_new, N_old)``, signed.
        columns: number of old classes kept.

    Returns:
        Indices of rows and of the kept columns, as they are to be drawn.

    Raises:
        CourseError: not a matrix, or values that are not finite.
    """
    if weights.ndim != 2 or not weights.isfinite().all():
        raise CourseError(f"the map needs finite weights (new classes, old classes), not {tuple(weights.shape)}.")
    weights = weights.detach().double().cpu()
    rows = list(range(len(weights)))
    if len(rows) > 2:
        centred = weights - weights.mean(1, keepdim=True)
        unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
        rows = leaves_list(linkage(unit.numpy(), "average", optimal_ordering=True)).tolist()
    strength = weights.abs()
    kept = strength.amax(0).argsort(descending=True)[:columns].tolist()
    place = {row: position for position, row in enumerate(rows)}
    owner = strength.argmax(0).tolist()
    kept.sort(key=lambda column: (place[owner[column]], -strength[owner[column], column].item()))
    return rows, kept


def borrowing_map(weights: Tensor, new: list[str], old: list[str], columns: int = 26, written: int = 3) -> Figure:
    """Rows are new classes, columns the old classes that are used most; blue lends, orange is subtracted.

    Args:
        weights: ``(len(new), len(old))``, signed.
        new, old: names of the classes.
        columns: number of old classes shown.
        written: how many of each row's largest entries carry their number, so that colour is not the only carrier.

    Raises:
        CourseError: names that do not fit the weights.
    """
    if tuple(weights.shape) != (len(new), len(old)):
        raise CourseError(f"{len(new)} new and {len(old)} old names do not fit weights of {tuple(weights.shape)}.")
    rows, kept = reading_order(weights, columns)
    shown = weights.detach().float().cpu()[rows][:, kept]
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
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.01, label="mixing weight")
    axes.set(xlabel="old class that lends", ylabel="new class")
    return figure


def propagation_schematic(old: Tensor, new: Tensor) -> Figure:
    """The method in one picture: what is frozen, what the two stages train, and what goes in.

    Args:
        old: three or more pictures of old classes, ``(N, 3, S, S)`` in [−1, 1].
        new: as many of new ones.
    """
    figure = Figure(figsize=(10.5, 3.9), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10.5), ylim=(0, 3.9))
    axes.axis("off")
    blue, orange = COLOURS[0], COLOURS[1]
    boxes = (
        (0.2, 2.45, 1.9, 0.8, "class c, one-hot", "black", ""),
        (2.7, 2.45, 2.1, 0.8, "mixing weights A, a₀", orange, ""),
        (5.4, 2.45, 2.2, 0.8, "offsets of 28\nold classes P", orange, ""),
        (2.7, 1.35, 2.1, 0.7, "residual R", orange, ""),
        (0.2, 0.3, 1.9, 0.7, "noise z", "black", ""),
        (2.7, 0.3, 5.4, 0.7, "convolutions", blue, "//"),
    )
    for x, y, width, height, text, colour, hatch in boxes:
        style = {"facecolor": "white", "edgecolor": colour, "linewidth": 2.0, "hatch": hatch}
        axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.04", **style))
        backing = {"facecolor": "white", "edgecolor": "none", "pad": 2.0}
        axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9.5, bbox=backing)
    arrows = (
        ((2.15, 2.85), (2.63, 2.85)),
        ((4.87, 2.85), (5.33, 2.85)),
        ((1.6, 2.38), (2.63, 1.75)),
        ((2.15, 0.65), (2.63, 0.65)),
        ((6.5, 2.38), (6.5, 1.95)),
        ((4.87, 1.7), (5.5, 1.7)),
        ((6.5, 1.45), (6.5, 1.07)),
        ((8.17, 0.65), (8.6, 0.65)),
        ((8.55, 2.55), (7.67, 2.75)),
    )
    for start, end in arrows:
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "linewidth": 1.4, "color": "black"})
    axes.text(6.5, 1.7, "γ = 1 + sum,  β likewise", ha="center", va="center", fontsize=10)
    axes.text(5.4, 3.55, "at each of the 6 batch norms, for γ and for β by itself", ha="center", fontsize=9.5)
    words = "orange: trained in the BN stage · blue, hatched: frozen in it, trained as a copy in the FT stage"
    axes.text(4.3, 0.04, words, ha="center", va="bottom", fontsize=8.5)
    for pictures, top, title in ((old, 2.2, "old classes"), (new, 0.3, "new classes")):
        for index, picture in enumerate(pictures[:3]):
            inset = figure.add_axes(((8.65 + 0.6 * index) / 10.5, top / 3.9, 0.56 / 10.5, 0.56 / 3.9))
            inset.imshow(((picture.clamp(-1, 1) + 1) / 2).permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
            inset.axis("off")
        axes.text(9.55, top + 0.62, title, ha="center", va="bottom", fontsize=9)
    axes.text(9.55, 3.45, "from the checkpoint,\nunchanged to the bit", ha="center", va="center", fontsize=8.5)
    return figure
