"""Training of class transfers: the shipped generator of new classes, and a comparison with other ways to learn them."""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from ..bn_transfer import (
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
    "kernel": "kernel distance",
    "frechet": "Fréchet distance",
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


GAN = {"critic_rate": 4e-4, "augmented": True, "decay": 0.97, "reconstruction": 4.0}
"""Of all methods alike."""
PROPAGATION = TransferSettings(options=GAN | {"rate": 1e-3, "scores_rate": 3.0})
FREE = TransferSettings("free", options=GAN | {"rate": 3e-3, "l2": 0.0})
TUNING = TransferSettings("fine-tuning", options=GAN | {"rate": 3e-4})
SCRATCH = TransferSettings("scratch", "random", options=GAN | {"rate": 1e-3})


@dataclass(frozen=True)
class TransferRun:
    """One line of the comparison.

    Attributes:
        name: what it is called in figures.
        settings: method, start, options.
        per_class: training pictures a class; None for all.
        old: number of old classes that mixtures can be made of; None for all.
        seeds: how often it is repeated, with other pictures, weights and noise.
        ft: whether the second half of the steps is the second stage.
    """

    name: str
    settings: TransferSettings
    per_class: int | None = 20
    old: int | None = None
    seeds: int = 3
    ft: bool = False


def _random(settings: TransferSettings) -> TransferSettings:
    return replace(settings, start="random")


TRANSFER_RUNS = (
    TransferRun("propagation", PROPAGATION),
    TransferRun("free", FREE),
    TransferRun("scratch", SCRATCH),
    TransferRun("fine-tuning", TUNING),
    TransferRun("propagation, random start", _random(PROPAGATION)),
    TransferRun("free, random start", _random(FREE)),
    TransferRun("propagation, then all", PROPAGATION, ft=True),
    *(
        TransferRun(f"{name}, {count or 'all'} pictures a class", settings, count, seeds=2)
        for count in (5, None)
        for name, settings in (("propagation", PROPAGATION), ("free", FREE), ("fine-tuning", TUNING))
    ),
    *(TransferRun(f"propagation, {count} old classes", PROPAGATION, old=count, seeds=2) for count in (5, 20)),
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
    first = steps // 2 if run.ft else steps
    found = run_transfer(data, generator, critic, settings, first, folder=folder / "bn", **options)
    if not run.ft:
        return found
    slow = replace(settings, options=settings.options | {"rate": TUNING.options["rate"]})
    set_stage(generator, "ft")
    second = run_transfer(data, generator, critic, slow, steps - first, folder=folder / "ft", **options)
    second.scores = found.scores | {first + step: scores for step, scores in second.scores.items() if step}
    return second


def train_comparison(job: Job) -> Card:
    """Propagation beside other ways to learn the same classes, with equally many steps of the generator.

    Each repetition is kept in the job's working folder, so that an interrupted comparison goes on where it stopped.
    """
    steps, every = job.steps or job.profile.pick(quick=2, cpu=150, gpu=1500), job.profile.pick(quick=1, cpu=50, gpu=250)
    seeds = job.profile.pick(quick=1, cpu=3, gpu=5)
    kit, judge, folder = Kit(SOURCE, job.profile.device), Judge.load().to(job.profile.device), job.work / COMPARISON
    whole = new_classes()
    held = HeldOut(whole.subset(whole.split > 0), judge)
    rows: dict[str, list[dict]] = {}
    for run in TRANSFER_RUNS:
        for seed in range(min(run.seeds, seeds)):
            place = folder / run.name.replace(", ", "-").replace(" ", "-") / str(seed)
            if not (place / "scores.json").is_file():
                found = _train(run, kit, held, steps, seed, every, job.precision, place)
                _keep(place, found)
            rows.setdefault(run.name, []).append(json.loads((place / "scores.json").read_text()))
    return _publish_comparison(job, rows, steps, held, judge)


def _keep(place: Path, found: Transfer) -> None:
    """Writes scores and removes the networks: a comparison is about numbers."""
    record = {
        "steps": list(found.scores),
        "seconds": found.history.seconds,
        **{name: [getattr(s, name) for s in found.scores.values()] for name in ("kernel", "frechet", "accuracy")},
    }
    for stage in ("bn", "ft"):
        shutil.rmtree(place / stage, ignore_errors=True)
    atomic_write(place / "scores.json", lambda part: part.write_text(json.dumps(record)))


def _publish_comparison(job: Job, rows: dict[str, list[dict]], steps: int, held: HeldOut, judge: Judge) -> Card:
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
        pairs = list(zip(ours, rows.get(other, []), strict=False))
        metrics[f"share of seeds in which propagation beats {other} (kernel distance)"] = fmean(
            a["kernel"][-1] < b["kernel"][-1] for a, b in pairs
        )
    recipe = {"steps": steps, "runs": {run.name: _described(run) for run in TRANSFER_RUNS if run.name in rows}}
    recipe["repetitions"] = {name: len(repeated) for name, repeated in rows.items()}
    notes = (
        "Scores with judge features on the held-out pictures (val and test) of the new classes. Kernel distance: "
        "unbiased, of each class by itself, mean over classes; Fréchet distance: all classes together."
    )
    card = Card(COMPARISON, "comparison", {}, recipe, data=data_hash(load_emoji()), metrics=metrics, notes=notes)
    return publish(job, card, {}, History(steps, seconds, curve), "propagation: kernel distance", higher=False)


def _described(run: TransferRun) -> dict:
    settings = asdict(run.settings)
    return {"per_class": run.per_class or "all", "old": run.old or "all", "second stage": run.ft, **settings}


def train_transfer(job: Job) -> Card:
    """The twenty new classes by propagation, from all their training pictures; the best step on val is shipped."""
    seed_everything(job.seed)
    steps, every = job.profile.pick(quick=2, cpu=400, gpu=4000), job.profile.pick(quick=1, cpu=50, gpu=250)
    steps = job.steps or steps
    data = new_classes()
    kit, judge = Kit(SOURCE, job.profile.device), Judge.load().to(job.profile.device)
    parts = {part: HeldOut(data.part(part), judge) for part in ("val", "test")}
    generator, critic, settings = kit.networks(data.part("train"), PROPAGATION, job.seed)
    folder = job.work / "bn-transfer32"
    found = run_transfer(
        data.part("train"), generator, critic, settings, steps,
        held=parts["val"], score_every=every, folder=folder, seed=job.seed, precision=job.precision,
    )  # fmt: skip
    best = Ranks(folder)
    found.generator.load_state_dict(best.load(1))
    metrics = {}
    for part, held in parts.items():
        scores = held.score(found.generator)
        metrics |= {f"{title} on {part}": getattr(scores, key) for key, title in SCORES.items()}
    config = transfer_config(found.generator, SOURCE, data.classes["class"])
    recipe = {"batch_size": settings.batch_size, **PROPAGATION.options, "best step": best.entries[0]["step"]}
    card = Card("bn-transfer32", KIND, config, recipe, data=data_hash(load_emoji()), metrics=metrics)
    card.notes = "Only what is new is stored; the old classes are those of biggan32, unchanged."
    tensors = new_tensors(found.generator)
    return publish(job, card, tensors, found.history, "kernel distance on val", higher=False, bits=8)
