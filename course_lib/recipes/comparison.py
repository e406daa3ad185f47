"""Comparisons of methods: the same data, scores and stops for all, over seeds; kept as they go."""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from ..training import Card, atomic_write
from ..training.loop import History
from ..training.method import Method
from .recipe import Job, publish

__all__ = ["Contender", "Results", "compare", "publish_comparison"]

Results = dict[str, list[dict[str, Any]]]
"""Contender → its repetitions: ``steps`` and ``seconds`` at each stop, ``scores`` (name → values), ``samples``."""


@dataclass(frozen=True)
class Contender:
    """One line of a comparison.

    Attributes:
        name: as figures call it.
        build: seed → the method, with weights and few pictures of that seed.
        draw: what pictures of the trained generator are made with: the method's first network (its moving average
            where the method keeps one, in evaluation mode) and a seed → pictures ``(N, 3, S, S)`` on the CPU.
        batch_size: of a step.
        seeds: repetitions.
        stops: steps at which it is scored; those of the comparison by default.
        settings: what the card says about it.
    """

    name: str
    build: Callable[[int], Method]
    draw: Callable[[nn.Module, int], Tensor]
    batch_size: int
    seeds: int = 3
    stops: tuple[int, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def compare(
    job: Job,
    name: str,
    contenders: Sequence[Contender],
    score: Callable[[Tensor], dict[str, float]],
    stops: Sequence[int],
    shown: int = 0,
) -> Results:
    """Trains every contender from seed to seed, with scores at each stop.

    Seeds are the outer loop, so that a comparison that is cut short has a first seed of everything. What is finished
    lies in ``job.work / name`` and is not done again. Seconds are those of :attr:`Job.clock`, without scoring.

    Args:
        job: with ``seconds`` no repetition begins after so many.
        name: of the comparison, and of its folder.
        contenders: what is compared.
        score: pictures that a contender draws → scores.
        stops: steps, rising.
        shown: how many of the last pictures of the first seed are kept as ``samples``, ``uint8``, evenly spaced.
    """
    started, results = time.perf_counter(), {}
    for seed in range(max((one.seeds for one in contenders), default=0)):
        for one in contenders:
            place = Path(name) / re.sub(r"[^a-z0-9]+", "-", one.name.lower()).strip("-") / str(seed)
            path = job.work / place / "scores.json"
            late = job.seconds is not None and time.perf_counter() - started > job.seconds
            if seed >= one.seeds or (late and not path.is_file()):
                continue
            if not path.is_file():
                _repeat(job, str(place), one, seed, score, one.stops or tuple(stops), shown)
            results.setdefault(one.name, []).append(json.loads(path.read_text()))
    return results


def _repeat(job: Job, place: str, one: Contender, seed: int, score: Callable, stops: Sequence[int], shown: int) -> None:
    method, folder, seconds = one.build(seed), job.work / place, 0.0
    found: dict[str, Any] = {"steps": list(stops), "seconds": [], "scores": {}}
    pictures, drawing = torch.empty(0), next(iter(method.modules))
    for stop in stops:
        if stop:
            before = job.clock()
            options = {"checkpoint_every": 0, "preview_every": 0, "progress": False}
            history = replace(job, seed=seed, steps=stop, seconds=None).run(
                place, method, one.batch_size, stop, **options
            )
            seconds += job.clock() - before
            network = history.averaged.get(drawing, method.unwrapped(drawing))
        else:
            network = method.unwrapped(drawing)
        training = network.training
        with torch.no_grad():
            pictures = one.draw(network.eval(), seed)
        network.train(training)
        found["seconds"].append(seconds)
        for key, value in score(pictures).items():
            found["scores"].setdefault(key, []).append(value)
    if shown and not seed:
        chosen = pictures[torch.arange(shown) * len(pictures) // shown]
        found["samples"] = ((chosen + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).tolist()
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("state.safetensors", "events*"):
        for path in folder.glob(file):
            path.unlink()
    atomic_write(folder / "scores.json", lambda part: part.write_text(json.dumps(found)))
    last = {key: round(values[-1], 4) for key, values in found["scores"].items()}
    print(f"{one.name}, seed {seed}: {last} after {seconds:.0f} s", flush=True)


def publish_comparison(
    job: Job,
    card: Card,
    contenders: Sequence[Contender],
    results: Results,
    primary: str,
    pairs: Sequence[tuple[str, str]] = (),
    higher: Sequence[str] = ("class accuracy",),
    samples: dict[str, Tensor] | None = None,
) -> Card:
    """A card with means and standard deviations over seeds as curves, last values as metrics, samples as weights.

    Curves are called ``CONTENDER: SCORE``, ``CONTENDER: SCORE, std``, ``CONTENDER: steps`` and ``CONTENDER: seconds``;
    metrics ``CONTENDER: SCORE``, and for each pair ``A beats B: SCORE``, the share of seeds in which it does.

    Args:
        card: with name, config and data.
        contenders: for their settings.
        results: of :func:`compare`.
        primary: the metric that decides whether a comparison replaces the shipped one (lower is better).
        pairs: who is compared with whom.
        higher: scores of which more is better.
        samples: further tensors for the file.
    """
    curve: dict[str, list[float]] = {}
    samples = dict(samples or {})
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
            ends = [
                (one["scores"][key][-1], other["scores"][key][-1])
                for one, other in zip(results[a], results[b], strict=False)
            ]
            card.metrics[f"{a} beats {b}: {key}"] = fmean((x > y) if key in higher else (x < y) for x, y in ends)
    card.recipe |= {"settings": {one.name: one.settings for one in contenders if one.name in results}}
    card.recipe |= {"repetitions": {name: len(repeated) for name, repeated in results.items()}}
    seconds = sum(one["seconds"][-1] for repeated in results.values() for one in repeated)
    steps = max((repeated[0]["steps"][-1] for repeated in results.values()), default=0)
    return publish(job, card, samples, History(steps, seconds, curve), primary, higher=False)
