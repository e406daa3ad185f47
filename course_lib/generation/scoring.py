"""Scores of generators: all classes together and each by itself, for one checkpoint or a whole folder of them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from ..data.image_set import ImageSet, regroup
from ..data.published import load
from ..errors import CourseError
from ..evaluation import scores as metrics
from ..evaluation.scores import FRECHET, INTRA_CLASS_MEAN, KERNEL, FeatureNetwork
from ..figures import COLOURS, MARKERS, new_figure
from ..training.runs import Card, atomic_write, load_card
from .generator import OPENERS, ConditionalGenerator, checkpoint_place, open_generator

NEIGHBOURS = 5


@dataclass(frozen=True)
class Scores:
    """Every number depends on the features and on how many pictures there were."""

    together: dict[str, float]  # score → value, all classes in one set
    classes: dict[str, dict[str, float]]  # class → score → value; empty without classes
    mean: dict[str, float]  # score → mean over these classes
    left_out: list[str]  # classes with too few real pictures to be scored by themselves
    counts: dict[str, int]  # real and generated pictures


def match_classes(data: ImageSet, generator: ConditionalGenerator, only: Sequence[str] = ()) -> ImageSet:
    """The pictures of the generator's classes, or of ``only`` these, with ``labels["class"]`` in its order; all as one
    class for a generator without classes. A CourseError if no label of ``data`` knows the classes."""
    names = list(only) or generator.classes
    if generator.classes:
        generator.labels(names)
    elif not names:
        nothing = torch.zeros(len(data), dtype=torch.int64)
        return replace(data, labels=data.labels | {"class": nothing}, classes=data.classes | {"class": ["all"]})
    # A folder calls its label `class`; of the avatars', kinds are what generators of the course know.
    fitting = [label for label in ("class", "kind", *data.classes) if set(names) <= set(data.classes.get(label, ()))]
    found = fitting and regroup(data, {name: (name,) for name in names}, fitting[0])
    if not found:
        wanted = f"classes of {generator.name} ({', '.join(names[:5])}, …)"
        raise CourseError(f"{data.name!r} has no pictures of the {wanted}: give folder:PATH with one folder for each.")
    return found


def score_generator(
    generator: ConditionalGenerator, data: ImageSet, network: FeatureNetwork, samples: int | None = None, seed: int = 0
) -> Scores:
    """Compares held-out real pictures, of :func:`match_classes`, brought to the generator's size, with as many
    generated ones of each class, or ``samples``, without truncation, in the features of ``network``."""
    names, labels = data.classes["class"], data.labels["class"]
    counts = labels.bincount(minlength=len(names))
    # Without classes the values that `only` chose are one set.
    wanted = counts if samples is None else torch.where(counts > 0, samples, 0)
    drawn = torch.arange(len(names)).repeat_interleave(wanted)
    vectors = generator.vectors_of(names)[drawn] if generator.classes else None
    pictures = generator.draw(generator.latents(len(drawn), seed), vectors, generator.noise(len(drawn), seed))
    real, fake = metrics.real_features(data, network, generator.size), network.features(pictures)
    together = metrics.feature_scores(real, fake, NEIGHBOURS)
    # Pictures lie class by class, and a split of the Inception score must hold all classes.
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    splits = 10 if len(pictures) >= 1000 else 1
    together["Inception score"], _ = metrics.inception_score(network.probabilities(pictures)[order], splits)
    left_out, found = [], {}
    if generator.classes:
        left_out = [names[k] for k in (torch.minimum(counts, wanted) <= NEIGHBOURS).nonzero().flatten().tolist()]
        if len(left_out) < len(names):
            found = metrics.class_wise(real, fake, labels, drawn, names, metrics.feature_scores, NEIGHBOURS + 1)
    mean = found.pop(INTRA_CLASS_MEAN, {})
    return Scores(together, found, mean, left_out, {"real": len(real), "generated": len(fake)})


PANELS = ((FRECHET,), (KERNEL,), ("precision", "recall"), ("density", "coverage"))
"""What is drawn and told."""


@dataclass(frozen=True)
class Evaluation:
    """Against what checkpoints are scored; stored beside the numbers, which mean nothing without it."""

    dataset: str = "kinds"  # as course_lib.data.load names it
    part: str = "test"  # or train, val; all for sets without a split
    features: str = "judge"  # or inception
    classes: tuple[str, ...] = ()  # only these; all of the generator's when empty
    samples: int | None = None  # generated pictures a class; as many as real ones when None
    seed: int = 0  # of z and noise


def find_checkpoints(place: str | Path) -> list[tuple[Card, Path]]:
    """Cards of generators, earliest training step first, with their folder; ``place`` is a folder, or one checkpoint as
    :func:`course_lib.generation.open_generator` takes it."""
    folder = Path(place).expanduser()
    if not folder.is_dir():
        stem, parent = checkpoint_place(place)
        return [(load_card(stem, parent), parent)]
    cards = [load_card(path.stem, folder) for path in folder.glob("*.safetensors")]
    found = sorted((card for card in cards if card.kind in OPENERS), key=lambda card: (card.steps, card.name))
    if not found:
        advice = f"give a folder with .safetensors files and their cards, of a kind among {', '.join(OPENERS)}"
        raise CourseError(f"{folder} holds no generator: {advice}.")
    return [(card, folder) for card in found]


def score_folder(
    place: str | Path,
    evaluation: Evaluation,
    out: Path,
    device: str = "cpu",
    tell: Callable[[str], None] = print,
    network: FeatureNetwork | None = None,
) -> dict[str, Any]:
    """Scores every checkpoint of ``place`` that ``out/scores.json`` does not know yet, and draws ``out/scores.png``.

    The file is written after each checkpoint; one is scored again when its weights or the real pictures have changed.
    Scores in ``out`` against something else are refused. ``tell`` gets a line a checkpoint; ``network`` replaces that
    of ``evaluation``. Returns what the file holds: ``evaluation``, a hash, step and :class:`Scores` a checkpoint.
    """
    checkpoints = find_checkpoints(place)
    record = _open_record(out / "scores.json", evaluation)
    data = load(evaluation.dataset)
    data = data if evaluation.part == "all" else data.part(evaluation.part)
    pictures, network = data.content_hash(), network or metrics.feature_network(evaluation.features, device)
    for card, folder in checkpoints:
        known = record["checkpoints"].get(card.name, {})
        if (known.get("sha256"), known.get("pictures")) != (card.sha256, pictures):
            generator = open_generator(folder / card.name, device)
            real = match_classes(data, generator, evaluation.classes)
            scores = score_generator(generator, real, network, evaluation.samples, evaluation.seed)
            known = {"sha256": card.sha256, "pictures": pictures, "steps": card.steps, **asdict(scores)}
            record["checkpoints"][card.name] = known
            text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
            atomic_write(out / "scores.json", lambda part, text=text: part.write_text(text, encoding="utf-8"))
        tell(_line(card.name, known))
    figure = _score_curves(record, [card.name for card, _ in checkpoints])
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
    shown = [(score, f" ({mean[score]:.3g})" if mean else "") for panel in PANELS for score in panel]
    return f"{name}, step {entry['steps']}: " + ", ".join(f"{score} {together[score]:.3g}{by}" for score, by in shown)


def _score_curves(record: dict[str, Any], names: list[str]) -> Figure:
    """Scores over training steps: all classes together (full lines) and mean over classes (dashed)."""
    entries = [record["checkpoints"][name] for name in names]
    steps = [entry["steps"] for entry in entries]
    figure, panels = new_figure(9.0, 6.0, columns=2, rows=2)
    for axes, scores in zip(panels, PANELS, strict=True):
        looks = zip(COLOURS, MARKERS, strict=False)
        for score, (kind, key, style) in product(scores, (("all", "together", "-"), ("class mean", "mean", "--"))):
            if all(score in entry[key] for entry in entries):
                values = [entry[key][score] for entry in entries]
                label = f"{score}, {kind}" if len(scores) > 1 else kind
                colour, marker = next(looks)
                axes.plot(steps, values, style, color=colour, marker=marker, markersize=5, label=label)
        axes.set(xlabel="training step", title=" and ".join(scores))
        axes.legend(frameon=False, fontsize=8, loc="best" if len(steps) < 50 else "upper right")
    asked = record["evaluation"]
    title = f"{asked['features']} features, {Path(asked['dataset']).name}, {asked['part']} part"
    figure.suptitle(title, fontsize=10)
    return figure
