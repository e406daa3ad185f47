"""Training of class transfers: the shipped generator of new classes, and a comparison with other ways to learn them."""

import json
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from ..bn_transfer import (
    TUNED,
    HeldOut,
    Kit,
    Ranks,
    Transfer,
    TransferSettings,
    new_classes,
    old_pictures,
    run_transfer,
    set_stage,
)
from ..bn_transfer.codes import CODES_KIND
from ..bn_transfer.shipped import KIND, new_tensors, transfer_config
from ..data import load_emoji
from ..evaluation import Judge
from ..experts import load_expert
from ..gans.codes import CodeSpace, encode_mirrored
from ..profiles import seed_everything
from ..training import Card, load_card
from ..training.checkpoints import atomic_write
from ..training.loop import History
from .recipe import Job, data_hash, publish

__all__ = ["TRANSFER_RUNS", "TransferRun", "train_codes", "train_comparison", "train_transfer"]

SOURCE, COMPARISON = "biggan32", "bn-transfer32-comparison"
SCORES = {
    "kernel": "kernel distance, mean over classes",
    "class_frechet": "Fréchet distance, mean over classes",
    "frechet": "Fréchet distance, all classes together",
    "accuracy": "subgroup accuracy (judge)",
}
"""Field of :class:`course_lib.bn_transfer.TransferScores` → its name in cards."""


def train_codes(job: Job) -> Card:
    """The space of the codes that ``biggan32`` learned to decode, so that new pictures can be read in it."""
    names = load_card(SOURCE).recipe["classes"]
    config = load_card(SOURCE).config
    data, target = old_pictures(names), load_expert("autoencoder64", job.profile.device)
    latent = encode_mirrored(lambda part: target.encode(part.to(job.profile.device)), data.batches(250))
    labels = data.labels["class"].repeat(2)
    space = CodeSpace.fit(latent, labels, config["noise"])
    codes = space.codes(latent, labels)
    card = Card(f"{SOURCE}-codes", CODES_KIND, {"noise": config["noise"]}, data=data_hash(load_emoji()))
    card.metrics = {"deviation of the codes of training pictures": codes.std().item()}
    card.notes = "Main directions of autoencoder64's latents around the means of the old classes."
    tensors = {"directions": space.directions.float(), "common": space.common.float()}
    return publish(job, card, tensors, History(), next(iter(card.metrics)), higher=True, bits=32)


@dataclass(frozen=True)
class TransferRun:
    """One line of the comparison.

    Attributes:
        name: what it is called in figures.
        settings: method, start, options.
        per_class: training pictures a class; None for all.
        old: number of old classes that mixtures can be made of; None for all.
        seeds: how often it is repeated, with other pictures, weights and noise.
        ft: whether the last third of the steps is the second stage.
    """

    name: str
    settings: TransferSettings
    per_class: int | None = 20
    old: int | None = None
    seeds: int = 3
    ft: bool = False


def _random(method: str) -> TransferSettings:
    return replace(TUNED[method], start="random")


TRANSFER_RUNS = (
    *(TransferRun(name, settings) for name, settings in TUNED.items()),
    TransferRun("propagation, random start", _random("propagation")),
    TransferRun("free, random start", _random("free")),
    TransferRun("propagation, then all", TUNED["propagation"], ft=True),
    *(
        TransferRun(f"{name}, {count or 'all'} pictures a class", TUNED[name], count, seeds=2)
        for count in (5, None)
        for name in ("propagation", "free", "fine-tuning")
    ),
    *(TransferRun(f"propagation, {count} old classes", TUNED["propagation"], old=count, seeds=2) for count in (5, 20)),
)
"""In the order of importance: a run that is stopped has the first lines."""


def _train(
    run: TransferRun, kit: Kit, held: HeldOut | None, steps: int, seed: int, every: int, precision: str, folder: Path
) -> Transfer:
    """One repetition; scores after every ``every`` steps of the generator, the second stage included."""
    data = new_classes(per_class=run.per_class, seed=seed).part("train")
    kit = kit.with_old(run.old, seed) if run.old else kit
    generator, critic, settings = kit.networks(data, run.settings, seed)
    options = {"held": held, "score_every": every, "seed": seed, "precision": precision}
    # Two thirds of the scores are the first stage's, so that all curves have the same steps.
    first = max(steps // every * 2 // 3, 1) * every if run.ft else steps
    found = run_transfer(data, generator, critic, settings, first, folder=folder / "bn", **options)
    if not run.ft:
        return found
    slow = replace(settings, options=settings.options | {"rate": TUNED["fine-tuning"].options["rate"]})
    set_stage(generator, "ft")
    second = run_transfer(data, generator, critic, slow, steps - first, folder=folder / "ft", **options)
    second.scores = found.scores | {first + step: scores for step, scores in second.scores.items() if step}
    return second


def train_comparison(job: Job) -> Card:
    """Propagation beside other ways to learn the same classes, with equally many steps of the generator.

    Each repetition is kept in the job's working folder, so that an interrupted comparison goes on where it stopped.
    With ``job.seconds`` it begins no further repetition after so many, and the card has the lines that are complete.
    """
    steps, every = job.steps or job.profile.pick(quick=2, cpu=150, gpu=1500), job.profile.pick(quick=1, cpu=50, gpu=250)
    seeds = job.profile.pick(quick=1, cpu=3, gpu=5)
    kit, judge, folder = Kit(SOURCE, job.profile.device), Judge.load().to(job.profile.device), job.work / COMPARISON
    whole, started = new_classes(), time.perf_counter()
    held = HeldOut(whole.subset(whole.split > 0), judge)
    rows: dict[str, list[dict]] = {}
    for run in TRANSFER_RUNS:
        for seed in range(min(run.seeds, seeds)):
            place = folder / run.name.replace(", ", "-").replace(" ", "-") / str(seed)
            if not (place / "scores.json").is_file():
                if rows and job.seconds is not None and time.perf_counter() - started > job.seconds:
                    continue
                _keep(place, _train(run, kit, held, steps, seed, every, job.precision, place))
            rows.setdefault(run.name, []).append(json.loads((place / "scores.json").read_text()))
    return _publish_comparison(job, rows, steps)


def _keep(place: Path, found: Transfer) -> None:
    """Writes scores and removes the networks: a comparison is about numbers."""
    record = {
        "steps": list(found.scores),
        "seconds": found.history.seconds,
        **{name: [getattr(scores, name) for scores in found.scores.values()] for name in SCORES},
    }
    for stage in ("bn", "ft"):
        shutil.rmtree(place / stage, ignore_errors=True)
    atomic_write(place / "scores.json", lambda part: part.write_text(json.dumps(record)))


def _publish_comparison(job: Job, rows: dict[str, list[dict]], steps: int) -> Card:
    """Means and deviations over repetitions as curves, the last values as metrics."""
    first = next(iter(rows.values()))[0]
    curve: dict[str, list[float]] = {"step": first["steps"]}
    metrics: dict[str, float] = {}
    for name, repeated in rows.items():
        for key, title in SCORES.items():
            columns = list(zip(*(row[key] for row in repeated), strict=True))
            curve[f"{name}: {title}"] = [fmean(column) for column in columns]
            curve[f"{name}: {title}, deviation"] = [stdev(c) if len(c) > 1 else 0.0 for c in columns]
            metrics[f"{name}: {title}"] = curve[f"{name}: {title}"][-1]
    ours, seconds = rows["propagation"], sum(row["seconds"] for repeated in rows.values() for row in repeated)
    for other in ("free", "scratch", "fine-tuning"):
        for key, title in SCORES.items():
            pairs = zip(ours, rows.get(other, []), strict=False)
            better = [(a[key][-1] < b[key][-1]) != (key == "accuracy") for a, b in pairs]
            if better:
                metrics[f"share of seeds in which propagation beats {other}: {title}"] = fmean(better)
    recipe = {"steps": steps, "runs": {run.name: _described(run) for run in TRANSFER_RUNS if run.name in rows}}
    recipe["repetitions"] = {name: len(repeated) for name, repeated in rows.items()}
    notes = (
        "Scores with judge features on the held-out pictures (val and test) of the new classes. Kernel distance: "
        "unbiased, of each class by itself, then the mean. Fréchet distances of classes are mostly bias, equal for all."
    )
    card = Card(COMPARISON, "comparison", {}, recipe, data=data_hash(load_emoji()), metrics=metrics, notes=notes)
    return publish(job, card, {}, History(steps, seconds, curve), f"propagation: {SCORES['frechet']}", higher=False)


def _described(run: TransferRun) -> dict:
    settings = asdict(run.settings)
    return {"per_class": run.per_class or "all", "old": run.old or "all", "second stage": run.ft, **settings}


def train_transfer(job: Job) -> Card:
    """The twenty new classes by propagation, from all their training pictures; shipped is the best step on val."""
    seed_everything(job.seed)
    steps, every = job.profile.pick(quick=2, cpu=600, gpu=4000), job.profile.pick(quick=1, cpu=50, gpu=250)
    steps = job.steps or steps
    data = new_classes()
    kit, judge = Kit(SOURCE, job.profile.device), Judge.load().to(job.profile.device)
    parts = {part: HeldOut(data.part(part), judge) for part in ("val", "test")}
    generator, critic, settings = kit.networks(data.part("train"), TUNED["propagation"], job.seed)
    folder = job.work / "bn-transfer32"
    found = run_transfer(
        data.part("train"), generator, critic, settings, steps,
        held=parts["val"], score_every=every, folder=folder, seed=job.seed, precision=job.precision,
    )  # fmt: skip
    best = Ranks(folder)
    found.generator.load_state_dict(best.load(1))
    curve = found.history.curve | {"scored step": list(found.scores)}
    curve |= {f"{title} on val": [getattr(s, key) for s in found.scores.values()] for key, title in SCORES.items()}
    metrics = {}
    for part, held in parts.items():
        scores = held.score(found.generator)
        metrics |= {f"{title} on {part}": getattr(scores, key) for key, title in SCORES.items()}
    config = transfer_config(found.generator, SOURCE, data.classes["class"])
    recipe = {"batch_size": settings.batch_size, **TUNED["propagation"].options, "best step": best.entries[0]["step"]}
    card = Card("bn-transfer32", KIND, config, recipe, data=data_hash(load_emoji()), metrics=metrics)
    card.notes = "Only what is new is stored; the old classes are those of biggan32, unchanged."
    tensors = new_tensors(found.generator)
    history = History(found.history.steps, found.history.seconds, curve)
    return publish(job, card, tensors, history, f"{SCORES['class_frechet']} on val", higher=False, bits=8)
