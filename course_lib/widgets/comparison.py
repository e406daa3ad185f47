"""Methods side by side, from the card of a comparison: curves over steps, and last values over an amount."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from matplotlib.figure import Figure

from ..errors import CourseError
from ..figures import COLOURS, MARKERS, new_figure
from ..training import Card

__all__ = ["amount_figure", "curve_figure", "last_value", "over_seeds", "repetitions"]

_SEED = re.compile(r"(?P<run>.*) \| (?P<seed>seed \d+)(?P<rest>.*)", re.DOTALL)


def repetitions(card: Card) -> dict[str, list[str]]:
    """Run → its repetitions ``RUN | seed N``, both in the order of the card's curves; see :func:`over_seeds`."""
    found: dict[str, dict[str, None]] = {}
    for match in map(_SEED.fullmatch, card.curve):
        if match and match["rest"].startswith(": "):
            found.setdefault(match["run"], {})[f"{match['run']} | {match['seed']}"] = None
    return {run: list(names) for run, names in found.items()}


def over_seeds(card: Card) -> Card:
    """The card with curves ``RUN: SCORE`` and, of two seeds or more, ``RUN: SCORE, deviation``.

    Args:
        card: whose ``curve`` has one ``RUN | seed N: SCORE`` for each seed, as comparisons write it; other curves stay.
    """
    groups: dict[str, list[list[float]]] = {}
    for name, values in card.curve.items():
        match = _SEED.fullmatch(name)
        groups.setdefault(match["run"] + match["rest"] if match else name, []).append(values)
    curve = {}
    for name, repeated in groups.items():
        curve[name] = [fmean(values) for values in zip(*repeated, strict=True)]
        if len(repeated) > 1:
            curve[f"{name}, deviation"] = [stdev(values) for values in zip(*repeated, strict=True)]
    return replace(card, curve=curve)


def _values(card: Card, run: str, score: str) -> tuple[list[float], list[float]]:
    """Means and deviations over repetitions, for each step of the curve."""
    key = f"{run}: {score}"
    if key not in card.curve:
        known = ", ".join(sorted({name.partition(":")[0] for name in card.curve if ":" in name}))
        raise CourseError(f"the card of {card.name} has no curve {key!r}: its runs are {known}.")
    means = card.curve[key]
    return means, card.curve.get(f"{key}, deviation", [0.0] * len(means))


def last_value(card: Card, run: str, score: str) -> tuple[float, float]:
    """Mean and deviation of a score after the last step.

    Args:
        card: whose ``curve`` has ``RUN: SCORE`` and ``RUN: SCORE, deviation``.
        run, score: their names.

    Raises:
        CourseError: the card has no such curve.
    """
    means, deviations = _values(card, run, score)
    return means[-1], deviations[-1]


def curve_figure(card: Card, runs: Mapping[str, str], scores: Mapping[str, str], over: str = "") -> Figure:
    """One panel for each score, one line for each run, bars of one standard deviation.

    Args:
        card: see :func:`last_value`.
        runs: name in the card → label.
        scores: name in the card → title of the panel.
        over: a curve of every run that is drawn on the axis in place of the steps, for example ``seconds``.

    Raises:
        CourseError: the card lacks a curve.
    """
    figure, axes = new_figure(3.6 * len(scores) + 0.4, 3.2, columns=len(scores))
    for axis, (score, title) in zip(axes, scores.items(), strict=True):
        for k, (run, label) in enumerate(runs.items()):
            means, deviations = _values(card, run, score)
            # Side by side, so that bars do not hide each other.
            places = _values(card, run, over)[0] if over else card.curve["step"]
            steps = [place * (1 + 0.012 * (k - len(runs) / 2)) for place in places[: len(means)]]
            style = {"color": COLOURS[k % 7], "marker": MARKERS[k % 7], "capsize": 2, "markersize": 5}
            axis.errorbar(steps, means, deviations, label=label, **style)
        axis.set(title=title, xlabel=over or "steps of the generator")
    axes[-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def amount_figure(
    card: Card, panels: Mapping[str, Mapping[str, Sequence[tuple[str, str]]]], score: str, y_label: str
) -> Figure:
    """Last values over an amount, such as pictures a class.

    Args:
        card: see :func:`last_value`.
        panels: title → label of a line → pairs of what stands on the axis and the run's name in the card.
        score: its name in the card.
        y_label: what it is called in the figure.

    Raises:
        CourseError: the card lacks a curve.
    """
    figure, axes = new_figure(5.0 * len(panels), 3.2, columns=len(panels))
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for k, (label, points) in enumerate(lines.items()):
            means, deviations = zip(*(last_value(card, run, score) for _, run in points), strict=True)
            places = [place + 0.05 * (k - (len(lines) - 1) / 2) for place in range(len(points))]
            style = {"color": COLOURS[k % 7], "marker": MARKERS[k % 7], "capsize": 3, "markersize": 6}
            axis.errorbar(places, means, deviations, label=label, **style)
        names = [name for name, _ in next(iter(lines.values()))]
        axis.set(title=title, xticks=range(len(names)), xticklabels=names)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set(ylabel=y_label)
    return figure
