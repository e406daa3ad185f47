"""What all recipes share: a job, that a checkpoint only gives way to a better one, comparisons over seeds."""

import hashlib
import json
import platform
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from ..data.image_set import ImageSet, to_uint8
from ..errors import CourseError
from ..profiles import CHECKPOINTS, DATA, RUNS, Profile
from ..training.loop import History, is_first_process, train
from ..training.runs import Budget, Card, Method, atomic_write, load_card, save_weights


@dataclass(frozen=True)
class Job:
    """One run of a recipe."""

    profile: Profile  # budget and device
    out: Path = CHECKPOINTS  # for the finished weights
    work: Path = RUNS / "train"  # for checkpoints and TensorBoard files; a run resumes there after an interruption
    seconds: float | None = None  # this or steps replace the profile's number of steps
    steps: int | None = None
    seed: int = 0  # of initialisation, data order and noise
    precision: str | None = None  # as Fabric names it; by default that of the recipe
    accumulate: int = 1  # micro-batches a step; the batch becomes as many times larger, the memory stays
    force: bool = False  # publish even if the checkpoint it replaces scores better
    dataset: str = ""  # another set to train on, see :mod:`course_lib.recipes.own`; the recipe's own by default
    size: int = 64  # side in pixels of its pictures, 64 or 128
    space: str = "latents"  # what a generator learns to draw: latents of the autoencoder, or pixels (for GPUs)

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds for comparisons: on one thread of a CPU those in which this process ran, whatever else the machine
        does; elsewhere those of the clock."""
        alone = self.profile.device == "cpu" and torch.get_num_threads() == 1
        return time.process_time if alone else time.perf_counter

    def run(
        self, name: str, method: Method, batch_size: int, steps: int, last: bool = False, **options: Any
    ) -> History:
        """Trains ``method`` in this job's working folder, resuming where an earlier run stopped. After the ``last``
        training of a recipe all processes of ``torchrun`` end but the first, which alone scores and publishes."""
        options = {"log_every": 100, "checkpoint_every": 500, "preview_every": 500} | options
        options |= {"folder": self.work / name, "resume": True, "seed": self.seed, "accelerator": self.profile.device}
        options |= {"accumulate": self.accumulate} | ({"precision": self.precision} if self.precision else {})
        budget = Budget(self.steps or (None if self.seconds else steps), self.seconds)
        history = train(method, budget, batch_size, **options)
        if last and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        if last and not is_first_process():
            raise SystemExit
        return history


def data_hash(data: ImageSet) -> dict[str, str]:
    """Name of the set and, for a bundled one, the hash of its manifest."""
    if data.name not in ("people", "kinds"):
        return {"name": data.name}
    return {"name": data.name, "sha256": hashlib.sha256((DATA / "avatars" / "manifest.json").read_bytes()).hexdigest()}


def on_held_out(score: Callable[[str], dict[str, float]]) -> dict[str, float]:
    """Scores of val and of test, under the names that cards have: ``SCORE on val``, ``SCORE on test``."""
    return {f"{name} on {part}": value for part in ("val", "test") for name, value in score(part).items()}


def publish(
    job: Job, card: Card, tensors: dict[str, Tensor], history: History, primary: str, higher: bool = False, **saved: Any
) -> Card:
    """Completes the card and writes the weights, unless what is there has a better ``primary`` metric; the first
    process alone does. ``saved`` goes to :func:`course_lib.training.save_weights`, which stores 8 bits by default."""
    if not is_first_process():
        return card
    card.steps, card.seconds, card.curve = history.steps, round(history.seconds, 1), history.curve
    cpu = f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"
    card.seed, card.device = job.seed, torch.cuda.get_device_name(0) if job.profile.device == "cuda" else cpu
    new = card.metrics[primary]
    try:
        old = load_card(card.name, job.out).metrics.get(primary)
    except CourseError:
        old = None
    better = old is None or (new > old if higher else new < old)
    print(f"{card.name}: {primary} = {new:.4g}" + (f", shipped {old:.4g}" if old is not None else ""))
    if better or job.force:
        print(f"wrote {save_weights(tensors, card, job.out, **{'bits': 8} | saved).name}")
    else:
        print("kept the shipped checkpoint, which scores better (force=True replaces it anyway)")
    return card


def kept(path: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``measure`` finds, from the JSON file of an earlier call if there is one."""
    if not path.is_file():
        found = measure()
        atomic_write(path, lambda part: part.write_text(json.dumps(found)))
    return json.loads(path.read_text())


# --- comparisons ------------------------------------------------------------------------------------------------------

HIGHER = ("class accuracy", "inception score")  # scores of which more is better

Results = dict[str, list[dict[str, Any]]]
"""Contender → repetitions: ``steps``, ``seconds`` each stop, ``scores`` (name → values), ``samples``, ``settings``."""

Look = Callable[[nn.Module, int], tuple[Tensor, dict[str, float]]]
"""A trained network (its moving average where the method keeps one, in evaluation mode) and the number of the stop →
pictures ``(N, 3, S, S)`` on the CPU and their scores."""


@dataclass(frozen=True)
class Contender:
    """One line of a comparison."""

    name: str  # as figures call it
    build: Callable[[int], tuple[Method, Look]]  # seed → the method, and how its first network is looked at
    batch_size: int
    seeds: int = 3  # repetitions
    stops: tuple[int, ...] = ()  # steps at which it is scored, rising; those of the comparison by default
    settings: dict[str, Any] = field(default_factory=dict)  # what the card says about it
    precision: str = "32-true"  # that of the job replaces it


def compare(job: Job, name: str, contenders: Sequence[Contender], stops: Sequence[int] = (), shown: int = 0) -> Results:
    """Trains every contender from seed to seed, so that a comparison that is cut short has a first seed of everything,
    with a look at each of the ``stops``; with ``job.seconds`` no repetition begins after so many. What is finished lies
    in ``job.work / name`` and is not done again. Seconds are those of :attr:`Job.clock`, without looks. Of the first
    seed's last pictures ``shown``, evenly spaced, are kept as ``samples``, ``uint8``."""
    started, results = time.perf_counter(), {}
    for seed in range(max(one.seeds for one in contenders)):
        for one in contenders:
            place = f"{name}/{re.sub(r'[^a-z0-9]+', '-', one.name.lower()).strip('-')}/{seed}"
            late = job.seconds is not None and time.perf_counter() - started > job.seconds
            if seed < one.seeds and (not late or (job.work / place / "scores.json").is_file()):
                found = _repeat(job, place, one, seed, one.stops or stops, shown)
                results.setdefault(one.name, []).append(found | {"settings": one.settings})
    return results


def _repeat(job: Job, place: str, one: Contender, seed: int, stops: Sequence[int], shown: int) -> dict[str, Any]:
    """One repetition, from where an interrupted one stopped."""
    path = job.work / place / "scores.json"
    found = json.loads(path.read_text()) if path.is_file() else {"steps": [], "seconds": [], "scores": {}}
    done = len(found["steps"])
    if done == len(stops):
        return found
    method, look = one.build(seed)
    drawing = next(iter(method.modules))
    for number, stop in enumerate(stops[done:], done):
        seconds, network = (found["seconds"] or [0.0])[-1], method.unwrapped(drawing)
        if stop:
            before = job.clock()
            options = {"checkpoint_every": 0, "preview_every": 0, "progress": False, "precision": one.precision}
            run = replace(job, seed=seed, steps=stop, seconds=None)
            history = run.run(place, method, one.batch_size, stop, **options)
            seconds += job.clock() - before
            network = history.averaged.get(drawing, network)
        training = network.training
        with torch.no_grad():
            pictures, scores = look(network.eval(), number)
        network.train(training)
        found["steps"].append(stop)
        found["seconds"].append(seconds)
        for key, value in scores.items():
            found["scores"].setdefault(key, []).append(value)
        if shown and not seed:
            chosen = pictures[torch.arange(shown) * len(pictures) // shown]
            found["samples"] = to_uint8(chosen.clamp(-1, 1)).tolist()
        atomic_write(path, lambda part: part.write_text(json.dumps(found)))
    for file in (path.with_name("state.safetensors"), *path.parent.glob("events*")):
        file.unlink(missing_ok=True)
    last = {key: round(values[-1], 4) for key, values in found["scores"].items()}
    print(f"{one.name}, seed {seed}: {last} after {found['seconds'][-1]:.0f} s", flush=True)
    return found


def publish_comparison(
    job: Job, card: Card, results: Results, primary: str, pairs: Sequence[tuple[str, str]] = (), **samples: Tensor
) -> Card:
    """A card with means and standard deviations over seeds as curves, last values as metrics, samples as weights.
    Curves are called ``CONTENDER: SCORE``, ``CONTENDER: SCORE, std``, ``CONTENDER: steps`` and ``CONTENDER: seconds``;
    metrics ``CONTENDER: SCORE``, and for each of ``pairs`` ``A beats B: SCORE``, the share of seeds in which it does.
    Of ``primary``, which decides, less is better; ``samples`` are further tensors."""
    curve: dict[str, list[float]] = {}
    for name, repeated in results.items():
        curve[f"{name}: steps"] = repeated[0]["steps"]
        columns = {"seconds": [one["seconds"] for one in repeated]}
        columns |= {key: [one["scores"][key] for one in repeated] for key in repeated[0]["scores"]}
        for key, rows in columns.items():
            curve[f"{name}: {key}"] = [fmean(values) for values in zip(*rows, strict=True)]
            if key != "seconds" and len(rows) > 1:
                curve[f"{name}: {key}, std"] = [stdev(values) for values in zip(*rows, strict=True)]
            card.metrics[f"{name}: {key}"] = curve[f"{name}: {key}"][-1]
        if "samples" in repeated[0]:
            samples[f"samples/{name}"] = torch.tensor(repeated[0]["samples"], dtype=torch.uint8)
    for a, b in pairs:
        for key in results[a][0]["scores"] if a in results and b in results else ():
            ends = [[one["scores"][key][-1] for one in both] for both in zip(results[a], results[b], strict=False)]
            card.metrics[f"{a} beats {b}: {key}"] = fmean((x > y) if key in HIGHER else (x < y) for x, y in ends)
    card.recipe["settings"] = {name: repeated[0]["settings"] for name, repeated in results.items()}
    card.recipe["repetitions"] = {name: len(repeated) for name, repeated in results.items()}
    seconds = sum(one["seconds"][-1] for repeated in results.values() for one in repeated)
    steps = max((repeated[0]["steps"][-1] for repeated in results.values()), default=0)
    if primary not in card.metrics:
        raise CourseError(f"{card.name} was cut short before {primary!r} was measured: start it again to go on.")
    return publish(job, card, samples, History(steps, seconds, curve), primary)
