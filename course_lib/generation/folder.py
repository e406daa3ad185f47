"""Scores of a whole folder of checkpoints, each computed once, and their curves over training steps."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..data import load
from ..errors import CourseError
from ..evaluation.features import FeatureNetwork, feature_network
from ..figures import COLOURS, MARKERS, new_figure
from ..training import Card, load_card
from ..training.checkpoints import atomic_write
from .opening import OPENERS, checkpoint_place, open_generator
from .scoring import match_classes, score_generator

__all__ = ["Evaluation", "evaluate", "find_checkpoints", "score_curves"]

PANELS = (("Fréchet distance",), ("kernel distance",), ("precision", "recall"), ("density", "coverage"))


@dataclass(frozen=True)
class Evaluation:
    """Against what checkpoints are scored; stored beside the numbers, which mean nothing without it.

    Attributes:
        dataset: as :func:`course_lib.data.load` names it.
        part: ``train``, ``val``, ``test``, or ``all`` for sets without a split.
        features: ``judge`` or ``inception``.
        classes: only these; all of the generator's when empty.
        samples: generated pictures a class; as many as real ones when None.
        seed: of z and noise.
    """

    dataset: str = "emoji"
    part: str = "test"
    features: str = "judge"
    classes: tuple[str, ...] = ()
    samples: int | None = None
    seed: int = 0


def find_checkpoints(place: str | Path) -> list[tuple[Card, Path]]:
    """Cards of generators, earliest training step first, with the folder that they lie in.

    Args:
        place: a folder, or one checkpoint as :func:`course_lib.generation.open_generator` takes it.

    Raises:
        CourseError: there is none.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        stem, parent = checkpoint_place(place)
        return [(load_card(stem, parent), parent)]
    cards = [load_card(path.stem, folder) for path in folder.glob("*.safetensors")]
    found = sorted((card for card in cards if card.kind in OPENERS), key=lambda card: (card.steps, card.name))
    if not found:
        raise CourseError(
            f"{folder} holds no generator: give a folder with .safetensors files and their cards, of a kind among "
            f"{', '.join(OPENERS)}."
        )
    return [(card, folder) for card in found]


def evaluate(
    place: str | Path,
    evaluation: Evaluation,
    out: Path,
    device: str = "cpu",
    tell: Callable[[str], None] = print,
    network: FeatureNetwork | None = None,
) -> dict[str, Any]:
    """Scores every checkpoint of ``place`` that ``out/scores.json`` does not know yet, and draws ``out/scores.png``.

    The file is written after each checkpoint, so an interrupted run goes on where it stopped; a checkpoint whose
    weights changed is scored again.

    Args:
        place: see :func:`find_checkpoints`.
        evaluation: against what.
        out: folder for the two files.
        device: where networks run.
        tell: gets one line for each checkpoint.
        network: instead of the one that ``evaluation`` names (tests).

    Returns:
        What the file holds: ``evaluation``, and for each checkpoint its hash, step and
        :class:`~course_lib.generation.scoring.Scores`.

    Raises:
        CourseError: no checkpoints, no such data, or scores in ``out`` against something else.
    """
    checkpoints = find_checkpoints(place)
    record = _open_record(out / "scores.json", evaluation)
    data = load(evaluation.dataset)
    data = data if evaluation.part == "all" else data.part(evaluation.part)
    network = network or feature_network(evaluation.features, device)
    for card, folder in checkpoints:
        known = record["checkpoints"].get(card.name, {})
        if known.get("sha256") != card.sha256:
            generator = open_generator(folder / card.name, device)
            real = match_classes(data, generator, evaluation.classes)
            scores = score_generator(generator, real, network, evaluation.samples, evaluation.seed)
            known = {"sha256": card.sha256, "steps": card.steps, **asdict(scores)}
            record["checkpoints"][card.name] = known
            text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
            atomic_write(out / "scores.json", lambda part, text=text: part.write_text(text, encoding="utf-8"))
        tell(_line(card.name, known))
    figure = score_curves(record, [card.name for card, _ in checkpoints])
    atomic_write(out / "scores.png", lambda part: figure.savefig(part, format="png"))
    return record


def _open_record(path: Path, evaluation: Evaluation) -> dict[str, Any]:
    wanted = json.loads(json.dumps(asdict(evaluation)))
    if not path.is_file():
        return {"evaluation": wanted, "checkpoints": {}}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record["evaluation"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CourseError(f"{path} is damaged ({error}): delete it, and everything is scored again.") from error
    if found != wanted:
        other = ", ".join(f"{name}={found.get(name)}" for name in wanted if found.get(name) != wanted[name])
        raise CourseError(f"{path} holds scores with other settings ({other}): give another --out, or delete it.")
    return record


def _line(name: str, entry: dict[str, Any]) -> str:
    together, mean = entry["together"], entry["mean"]
    shown = "Fréchet distance", "kernel distance", "precision", "recall", "density", "coverage"
    parts = [f"{score} {together[score]:.3g}" + (f" ({mean[score]:.3g})" if mean else "") for score in shown]
    return f"{name}, step {entry['steps']}: " + ", ".join(parts)


def score_curves(record: dict[str, Any], names: list[str]) -> Figure:
    """Scores over training steps: all classes together (full lines) and mean over classes (dashed).

    Args:
        record: of :func:`evaluate`.
        names: of the checkpoints to show, in order.
    """
    entries = [record["checkpoints"][name] for name in names]
    steps = [entry["steps"] for entry in entries]
    figure, panels = new_figure(9.0, 6.0, columns=2, rows=2)
    for axes, scores in zip(panels, PANELS, strict=True):
        number = 0
        for score in scores:
            for kind, key, style in (("all", "together", "-"), ("class mean", "mean", "--")):
                if all(score in entry[key] for entry in entries):
                    label = f"{score}, {kind}" if len(scores) > 1 else kind
                    values = [entry[key][score] for entry in entries]
                    colour, marker = COLOURS[number], MARKERS[number]
                    axes.plot(steps, values, style, color=colour, marker=marker, markersize=5, label=label)
                    number += 1
        axes.set(xlabel="training step", title=" and ".join(scores))
        axes.legend(frameon=False, fontsize=8, loc="best" if len(steps) < 50 else "upper right")
    settings = record["evaluation"]
    figure.suptitle(
        f"{settings['features']} features, {Path(settings['dataset']).name}, {settings['part']} part", fontsize=10
    )
    return figure
