"""The comparison that notebook 08 shows: hyper-modulation, its variants and its baselines, over steps and seeds."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data import TRANSFER_CLASSES, few_per_class, load_emoji, transfer_classes
from ..evaluation import Judge
from ..evaluation.class_wise import INTRA_CLASS_MEAN
from ..experts import load_expert
from ..hypermod import HyperGenerator, SelfAlignmentMethod, build_variant
from ..hypermod.scores import ACCURACY, FRECHET, KERNEL, HeldOut, draw_classes
from ..profiles import seed_everything
from ..training import Card, atomic_write
from ..training.loop import History
from .hypermod import SETTINGS, SOURCE
from .recipe import Job, data_hash, publish

__all__ = ["NAME", "PLAN", "Run", "train_comparison"]

NAME = "hypermod32-comparison"
COMPARED = replace(SETTINGS, ema=0.98)
"""A few hundred steps: an average of the last thousand would still be the start."""
_BATCH, _WIDTH, _SAMPLES = 16, 16, 2
_STOPS = (50, 100, 200)
_ALIGNMENT = 400


@dataclass(frozen=True)
class Run:
    """One training: which variant, from how many pictures a class (None: all), with which seed.

    The seed chooses the pictures too.
    """

    variant: str
    pictures: int | None
    seed: int

    @property
    def key(self) -> str:
        """Prefix of this run's entries in the card."""
        return f"{self.variant} | {self.pictures or 'all'} pictures | seed {self.seed}"


_RIVALS = ("hyper-modulation", "finetune", "from scratch", "random start", "all weights", "class styles", "contrastive")


def _plan() -> Iterator[Run]:
    for seed in range(3):
        for variant in _RIVALS:
            yield Run(variant, 50, seed)
    for variant in ("self-aligned", "rank 4", "rank 1"):
        yield Run(variant, 50, 0)
    for pictures in (10, None):
        for variant in ("finetune", "from scratch", "all weights"):
            yield Run(variant, pictures, 0)
    yield Run("no augmentation", 10, 0)


PLAN = tuple(_plan())
"""In the order in which they run: what must be known first."""


def train_comparison(job: Job) -> Card:
    """Trains every run of :data:`PLAN`; an interrupted comparison goes on where it stopped.

    The card's curves have ``KEY: kernel distance``, ``KEY: Fréchet distance``, ``KEY: class accuracy`` and
    ``KEY: seconds`` for every run, at the steps ``step``; at 50 pictures also ``KEY, CLASS: kernel distance``; and
    ``self-alignment: …`` with steps of its own. The weights file holds samples of each variant, ``samples/VARIANT``:
    uint8 ``(classes · 2, 3, S, S)``, class by class.
    """
    seed_everything(job.seed)
    bench = _Bench(job)
    stops = job.profile.pick(quick=(2, 4), cpu=_STOPS, gpu=_STOPS)
    curve, samples = {}, {}
    for run in PLAN:
        found = bench.finished(run, stops)
        for name in (KERNEL, FRECHET, ACCURACY, "seconds"):
            curve[f"{run.key}: {name}"] = [point[name] for point in found["points"]]
        for name in bench.held_out.classes if run.pictures == 50 else ():
            curve[f"{run.key}, {name}: {KERNEL}"] = [point["classes"][name][KERNEL] for point in found["points"]]
        for name, values in found["alignment"].items():
            curve[f"self-alignment: {name}"] = values
        if run.pictures == 50 and run.seed == 0:
            samples[f"samples/{run.variant}"] = torch.tensor(found["samples"], dtype=torch.uint8)
    seconds = sum(curve[f"{run.key}: seconds"][-1] for run in PLAN)
    history = History(stops[-1], seconds, {"step": list(map(float, stops)), **curve})
    card = Card(NAME, "comparison", {"source": SOURCE, "classes": list(TRANSFER_CLASSES), "width": _WIDTH})
    card.recipe = {"batch_size": _BATCH, "alignment_steps": _ALIGNMENT, **asdict(COMPARED)}
    card.metrics, card.data = _summary(curve), data_hash(bench.data)
    card.notes = "Distances and class accuracy: judge features, held-out pictures (val and test), mean over classes."
    primary = f"hyper-modulation, 50 pictures: {KERNEL}"
    return publish(job, card, samples, history, primary, higher=False)


def _summary(curve: dict[str, list[float]]) -> dict[str, float]:
    """Mean over seeds of every variant and number of pictures, at the last step."""
    groups: dict[str, list[float]] = {}
    for run in PLAN:
        for name in (KERNEL, FRECHET, ACCURACY):
            key = f"{run.variant}, {run.pictures or 'all'} pictures: {name}"
            groups.setdefault(key, []).append(curve[f"{run.key}: {name}"][-1])
    return {key: sum(values) / len(values) for key, values in groups.items()}


class _Bench:
    """What all runs share."""

    def __init__(self, job: Job):
        self.job, self.data = job, transfer_classes(load_emoji())
        self.source, self.critic = load_expert(SOURCE), load_expert(f"{SOURCE}-critic")
        judge = Judge.load().to(job.profile.device)
        self.held_out = HeldOut.of(self.data.subset(self.data.split > 0), judge, self.source.config.size)
        self.aligned: HyperGenerator | None = None
        self.alignment: dict[str, list[float]] = {}

    def finished(self, run: Run, stops: tuple[int, ...]) -> dict[str, Any]:
        """Points of the curve and samples, from the file of an earlier call or from training now."""
        name = f"{NAME}/{run.key.replace(' | ', '-').replace(' ', '-')}"
        path = self.job.work / name / "scores.json"
        found = json.loads(path.read_text()) if path.is_file() else {"points": []}
        if "samples" in found:
            return found
        data = self.data.part("train")
        data = few_per_class(data, run.pictures, run.seed) if run.pictures else data
        aligned = self._aligned() if run.variant == "self-aligned" else None
        method = build_variant(run.variant, data, self.source, self.critic, COMPARED, run.seed, _WIDTH, aligned)
        job = replace(self.job, seed=run.seed, steps=None, seconds=None)
        spent = found["points"][-1]["seconds"] if found["points"] else 0.0
        for stop in stops[len(found["points"]) :]:
            started = self.job.clock()
            history = job.run(name, method, _BATCH, stop, checkpoint_every=0, preview_every=0, log_every=50)
            spent += self.job.clock() - started
            network = history.averaged["generator"].eval()
            scores = self.held_out.score(network)
            found["points"].append(scores[INTRA_CLASS_MEAN] | {"seconds": spent, "classes": scores})
            _write(path, found)
        found["alignment"] = self.alignment if aligned else {}
        found["samples"] = _grid(network, len(self.held_out.classes)).tolist()
        _write(path, found)
        (path.parent / "state.safetensors").unlink(missing_ok=True)
        print(f"{run.key}: {found['points'][-1][KERNEL]:.4g} after {spent:.0f} s", flush=True)
        return found

    def _aligned(self) -> HyperGenerator:
        """The source's imitation by a random hypernetwork, trained once."""
        if self.aligned is None:
            hyper = HyperGenerator(self.source, 1, _WIDTH, start="random")
            job = replace(self.job, steps=None, seconds=None)
            history = job.run(f"{NAME}/self-alignment", SelfAlignmentMethod(hyper), 32, _ALIGNMENT, log_every=20)
            self.aligned, self.alignment = hyper, history.curve
        return self.aligned


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda part: part.write_text(json.dumps(found)))


def _grid(network: nn.Module, classes: int) -> Tensor:
    """``uint8 (classes · 2, 3, S, S)``, class by class."""
    pictures = draw_classes(network, torch.arange(classes).repeat_interleave(_SAMPLES), seed=1)
    return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
