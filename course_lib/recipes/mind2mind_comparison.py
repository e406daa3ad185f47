"""The comparison that notebook 10 shows: MindGAN, and the whole GAN fine-tuned or from scratch, over time."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..evaluation import Judge
from ..evaluation.distances import frechet_distance
from ..mind2mind import MindMethod, encode_set, load_halves, uniform_noise
from ..profiles import seed_everything
from ..training import Budget, Card, atomic_write, train
from ..training.loop import History
from .mind2mind import NEAR, SIZES, SOURCE, TARGETS
from .mind2mind_cost import BATCHES, count_flops, measure_step, method_iteration
from .mind2mind_whole import WholeMethod
from .recipe import Job, data_hash, publish

__all__ = ["DISTANCE", "NAME", "READ", "WAYS", "train_comparison"]

NAME = "avatar-mind2mind-comparison"
DISTANCE, READ = "Fréchet distance", "read as the target"
_SHOWN = 12


@dataclass(frozen=True)
class Way:
    """One way to a GAN of the target.

    Attributes:
        fine_tuned: whether image layers start from the expert's weights; None for MindGAN, which trains none.
        batch_size: codes or pictures a step.
        stops: steps of the generator at which it is scored.
        precision: as Fabric names it. Small products gain nothing from half precision.
        average: decay of the generator's moving average.
        seeds: repetitions.
    """

    fine_tuned: bool | None
    batch_size: int
    stops: tuple[int, ...]
    precision: str
    average: float
    seeds: int = 1


WAYS = {
    "MindGAN": Way(None, 128, tuple(16 * 2**k for k in range(9)), "32-true", 0.99, 3),
    "whole GAN, fine-tuned": Way(True, 16, (6, 12, 25, 50, 100, 200, 400, 800, 1200, 1600), "bf16-mixed", 0.98),
    "whole GAN, from scratch": Way(False, 16, (6, 12, 25, 50, 100, 200, 400, 800, 1200, 1600), "bf16-mixed", 0.98),
}
"""The rivals have the settings of Gulrajani et al. 2017, but for the batch: 16 instead of 64 pictures give them four
times as many steps in their time."""


def train_comparison(job: Job) -> Card:
    """All ways side by side, from stop to stop, on one machine; what is finished is kept and not done again.

    On one thread of a CPU the seconds are those in which the process really ran, so that whatever else the machine
    does counts for nobody; elsewhere they are those of the clock. With ``job.seconds`` nothing begins after so many,
    and the card has what is there.

    The card's curves have, for every way, ``WAY: Fréchet distance`` and ``WAY: read as the target`` (the share of
    samples in which the judge sees the target), means over seeds; ``WAY: seconds`` of training, MindGAN's with the time
    that encoding took; ``WAY: steps`` of the generator and ``WAY: operations``. The weights file holds ``samples/WAY``,
    ``uint8 (12, 3, S, S)``.
    """
    bench, started = _Bench(job), time.perf_counter()
    places = [(name, seed) for name, way in WAYS.items() for seed in range(way.seeds)]
    for _ in range(max(len(way.stops) for way in WAYS.values())):
        for name, seed in places:
            if job.seconds is None or time.perf_counter() - started < job.seconds:
                bench.advance(name, seed)
    curve: dict[str, list[float]] = {}
    metrics, samples = bench.references(), {}
    for name, way in WAYS.items():
        runs = [bench.found(name, seed) for seed in range(way.seeds)]
        runs = [run for run in runs if run["points"]]
        count = min((len(run["points"]) for run in runs), default=0)
        for key in (DISTANCE, READ, "seconds", "steps", "operations"):
            values = torch.tensor([[point[key] for point in run["points"][:count]] for run in runs], dtype=torch.double)
            curve[f"{name}: {key}"] = values.mean(0).tolist()
            metrics[f"{name}: {key}"] = curve[f"{name}: {key}"][-1]
            if key in (DISTANCE, READ) and len(runs) > 1:
                curve[f"{name}: {key}, std"] = values.std(0).tolist()
        metrics |= {f"{name}: {key}": runs[0][key] for key in ("operations a step", "trained numbers")}
        metrics[f"{name}: seconds a step"] = runs[0]["points"][-1]["training"] / runs[0]["points"][-1]["steps"]
        samples[f"samples/{name}"] = torch.tensor(runs[0]["samples"], dtype=torch.uint8)
    card = Card(NAME, "comparison", {"source": SOURCE, "target": NEAR, **bench.config.to_dict()}, metrics=metrics)
    card.recipe = {name: asdict(way) for name, way in WAYS.items()}
    card.data = data_hash(bench.data)
    card.notes = f"{DISTANCE}s: judge features, as many samples as there are new people in the target style."
    history = History(int(curve["MindGAN: steps"][-1]), sum(curve[f"{name}: seconds"][-1] for name in WAYS), curve)
    return publish(job, card, samples, history, f"MindGAN: {DISTANCE}", higher=False)


class _Bench:
    """What all share: data, frozen expert, judge, clock, and files of what is done."""

    def __init__(self, job: Job):
        self.job, self.expert, self.judge = job, load_halves(SOURCE, job.profile.device), Judge.load()
        target = TARGETS["avatar-mind2mind"]
        self.data, self.config = target.train(), replace(SIZES, latent=self.expert.latent_dim)
        self.target = self.data.classes["style"].index(NEAR)
        self.real = self._pictures(target.unseen())
        self.features, _ = self.judge.read(self.real)
        self.methods: dict[tuple[str, int], Any] = {}
        warm = MindMethod(torch.zeros(4, SIZES.latent), SIZES)  # what is loaded at the first step counts for nobody
        train(warm, Budget(1), 4, accelerator=job.profile.device, checkpoint_every=0, preview_every=0, progress=False)

    def _pictures(self, data: Any) -> Tensor:
        return torch.cat(list(data.batches(250)))

    def score(self, pictures: Tensor) -> dict[str, float]:
        """Distance, and share of pictures that the judge takes for the target."""
        features, seen = self.judge.read(pictures)
        right = (seen["kind"] == self.target).float().mean().item()
        return {DISTANCE: frechet_distance(self.features, features), READ: right}

    def references(self) -> dict[str, float]:
        """What decoded codes and training pictures score, what encoding costs, what a step costs at other sizes."""
        draws = torch.Generator().manual_seed(0)
        some = torch.randperm(len(self.data), generator=draws)[: len(self.real)]
        others = self._pictures(self.data.subset(some))
        found = {"ceiling": self.expert.decode(encode_set(self.expert, self.data)[some]), "training pictures": others}
        scores = {f"{name}: {key}": value for name, x in found.items() for key, value in self.score(x).items()}
        return scores | self.encoding() | self._kept("by-size", self._by_size)

    def _by_size(self) -> dict[str, float]:
        sizes = self.job.profile.pick(quick=[64], cpu=list(BATCHES), gpu=list(BATCHES))
        found = {size: measure_step(size, 3 if size < 256 else 1, self.job.clock) for size in sizes}
        return {f"{size} px: {name}": value for size, row in found.items() for name, value in row.items()}

    def encoding(self) -> dict[str, float]:
        """Seconds and operations, measured without the cache."""
        return self._kept("encoding", self._encode)

    def _encode(self) -> dict[str, float]:
        with TemporaryDirectory() as folder:
            started = self.job.clock()
            encode_set(self.expert, self.data, Path(folder), progress=False)
            seconds = self.job.clock() - started
        batch = self.data.batch(torch.arange(4), self.expert.config.size).to(self.job.profile.device)
        operations = count_flops(lambda: self.expert.encode(batch)) / 4 * len(self.data)
        return {"encoding: seconds": seconds, "encoding: operations": operations}

    def _kept(self, name: str, measure: Callable[[], dict]) -> dict[str, Any]:
        """From the file of an earlier call, or measured now."""
        path = self.job.work / NAME / f"{name}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            found = measure()
            atomic_write(path, lambda part: part.write_text(json.dumps(found)))
        return json.loads(path.read_text())

    def _place(self, name: str, seed: int) -> str:
        return f"{NAME}/{name.replace(', ', '-').replace(' ', '-')}-{seed}"

    def found(self, name: str, seed: int) -> dict[str, Any]:
        """Points, samples and costs of one run so far."""
        path = self.job.work / self._place(name, seed) / "points.json"
        return json.loads(path.read_text()) if path.is_file() else {"points": []}

    def _build(self, name: str, seed: int) -> MindMethod | WholeMethod:
        seed_everything(seed)
        way = WAYS[name]
        if way.fine_tuned is None:
            return MindMethod(encode_set(self.expert, self.data), self.config, average=way.average)
        return WholeMethod(self.data, self.expert, self.config, way.fine_tuned, seed, average=way.average)

    def _draw(self, name: str, network: nn.Module, count: int, seed: int) -> Tensor:
        z = uniform_noise(count, self.config, torch.Generator().manual_seed(seed))
        if WAYS[name].fine_tuned is not None:
            return WholeMethod.sample(network, z)
        with torch.no_grad():
            return self.expert.decode(network(z.to(self.job.profile.device))).cpu()

    def advance(self, name: str, seed: int) -> None:
        """Trains one run to its next stop, if there is one, and scores it there."""
        way, known = WAYS[name], self.found(name, seed)
        points, stops = known["points"], self.job.profile.pick(quick=way.stops[:2], cpu=way.stops, gpu=way.stops)
        if len(points) == len(stops):
            return
        if (name, seed) not in self.methods:
            counted = self._build(name, seed)  # a method of its own, whose running statistics may change
            batch = counted.batch(torch.arange(4), torch.Generator())
            operations = count_flops(method_iteration(counted, batch)) / 4 * way.batch_size
            self.methods[name, seed] = self._build(name, seed), operations
        method, operations = self.methods[name, seed]
        job = replace(self.job, steps=stops[len(points)], seconds=None, seed=seed, precision=way.precision)
        options = {"checkpoint_every": 100, "preview_every": 0, "log_every": 50, "progress": False}
        started = self.job.clock()
        history = job.run(self._place(name, seed), method, way.batch_size, 0, **options)
        training = self.job.clock() - started + (points[-1]["training"] if points else 0.0)
        network, before = history.averaged["generator"].eval(), {} if way.fine_tuned is not None else self.encoding()
        points.append(
            {
                "steps": history.steps,
                "training": training,
                "seconds": training + before.get("encoding: seconds", 0.0),
                "operations": history.steps * operations + before.get("encoding: operations", 0.0),
                **self.score(self._draw(name, network, len(self.real), 0)),
            }
        )
        pictures = ((self._draw(name, network, _SHOWN, 1) + 1) * 127.5).round().to(torch.uint8)
        numbers = sum(p.numel() for m in method.modules.values() for p in m.parameters())
        found = {"points": points, "samples": pictures.tolist()}
        found |= {"operations a step": operations, "trained numbers": numbers}
        path = self.job.work / self._place(name, seed) / "points.json"
        atomic_write(path, lambda part: part.write_text(json.dumps(found)))
        print(f"{name}, seed {seed}: {points[-1]}", flush=True)
