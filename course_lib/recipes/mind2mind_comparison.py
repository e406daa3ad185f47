"""The comparison that notebook 10 shows: MindGAN, and the whole GAN fine-tuned or from scratch, over time."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..data import ImageSet, load_emoji
from ..evaluation.distances import frechet_distance
from ..evaluation.feature_cache import real_features
from ..evaluation.features import judge_features
from ..experts import load_expert
from ..mind2mind import QUARTER, MindMethod, TransferredGAN, auto_encoding_ceiling, encode_set, uniform_noise
from ..mind2mind.by_size import BATCHES, measure_step
from ..mind2mind.cost import count_flops, method_iteration
from ..mind2mind.whole import WholeMethod
from ..profiles import seed_everything
from ..training import Card, atomic_write
from ..training.loop import History
from ..training.method import Method
from .emoji import faces
from .recipe import Job, data_hash, publish

__all__ = ["DISTANCE", "NAME", "PLAYERS", "Player", "train_comparison"]

NAME = "mind2mind64-comparison"
SOURCE = "autoencoder64"
DISTANCE = "Fréchet distance"
_TRIAL, _SAMPLES, _TIMED = 8, 10, 3000


@dataclass(frozen=True)
class Player:
    """One way to get a GAN of the target.

    Attributes:
        name: prefix of its entries in the card.
        share: of the time budget.
        batch_size: pictures, or codes, a step.
        first: steps to the first score; each further score is after twice as many.
        rates: learning rates of the image layers. Each gets an eighth of the time; the best on val goes on.
        fine_tuned: whether image layers start from the expert's weights; None for MindGAN, which has none.
        average: decay of the generator's moving average.
    """

    name: str
    share: float
    batch_size: int
    first: int
    rates: tuple[float, ...]
    fine_tuned: bool | None = None
    average: float = 0.98


PLAYERS = (
    Player("MindGAN", 0.2, 64, 64, (1e-3,), average=0.99),
    Player("whole GAN, fine-tuned", 0.4, 16, 4, (1e-4, 4e-4), True),
    Player("whole GAN, from scratch", 0.4, 16, 4, (1e-4, 4e-4), False),
)


def train_comparison(job: Job) -> Card:
    """Each player in turn on one machine; an interrupted comparison goes on where it stopped.

    On one thread of a CPU the seconds are those in which the process really ran, so that whatever else the machine
    does counts for nobody; elsewhere they are those of the clock.

    The card's curves have ``PLAYER: Fréchet distance`` (judge features, test pictures), ``PLAYER: seconds`` of
    training (MindGAN's with the time that encoding took), ``PLAYER: steps`` of the generator and ``PLAYER:
    operations`` (floating-point, forward and backward, encoding included). The weights file holds ``samples/PLAYER``,
    uint8 ``(10, 3, S, S)``. Trials of learning rates are not counted in anybody's time.
    """
    seed_everything(job.seed)
    seconds = job.seconds or job.profile.pick(quick=60, cpu=1500, gpu=600)
    bench = _Bench(job)
    curve: dict[str, list[float]] = {}
    metrics, samples, rates = bench.references(), {}, {}
    for player in PLAYERS:
        found = bench.finished(player, seconds * player.share)
        for key in (DISTANCE, "seconds", "steps", "operations"):
            curve[f"{player.name}: {key}"] = [point[key] for point in found["points"]]
        metrics |= {f"{player.name}: {key}": value for key, value in found["metrics"].items()}
        samples[f"samples/{player.name}"] = torch.tensor(found["samples"], dtype=torch.uint8)
        rates[player.name] = found["rates"]
    metrics |= bench.by_size()
    card = Card(NAME, "comparison", {"source": SOURCE, "target": "faces", **bench.config.to_dict()}, metrics=metrics)
    card.recipe = {"seconds": seconds, "distance on val by learning rate": rates}
    card.recipe |= {p.name: {"batch_size": p.batch_size, "average": p.average} for p in PLAYERS}
    card.data = data_hash(load_emoji())
    card.notes = f"{DISTANCE}s: judge features, test pictures of the target, as many samples."
    history = History(int(curve["MindGAN: steps"][-1]), sum(curve[f"{p.name}: seconds"][-1] for p in PLAYERS), curve)
    return publish(job, card, samples, history, f"MindGAN: {DISTANCE} on test", higher=False)


class _Bench:
    """What all players share: data, frozen expert, judge, and files of what is done."""

    def __init__(self, job: Job):
        self.job, self.expert, self.features = job, load_expert(SOURCE, job.profile.device), judge_features()
        data = faces(load_emoji())
        self.parts = {part: data.part(part) for part in ("train", "val", "test")}
        draws = torch.Generator().manual_seed(0)  # a choice between two rates needs no more
        self.parts["val"] = self.parts["val"].subset(torch.randperm(len(self.parts["val"]), generator=draws)[:200])
        self.config = replace(QUARTER, latent=self.expert.latent_dim)
        self.clock = job.clock

    def references(self) -> dict[str, float]:
        """The ceiling, what real pictures would score, and what encoding costs."""
        size = self.expert.config.size
        test, train = self.parts["test"], self.parts["train"]
        draws = torch.Generator().manual_seed(0)
        others = train.subset(torch.randperm(len(train), generator=draws)[: len(test)])
        real, other = (real_features(part, self.features, size) for part in (test, others))
        return {
            f"auto-encoding ceiling: {DISTANCE} on test": auto_encoding_ceiling(self.expert, test, self.features),
            f"training pictures: {DISTANCE} on test": frechet_distance(real, other),
            **self.encoding,
        }

    def by_size(self) -> dict[str, float]:
        """What a step costs at other sizes, of the published shapes with random weights."""
        return self._kept("by-size", self._by_size)

    def _by_size(self) -> dict[str, float]:
        sizes = self.job.profile.pick(quick=[64], cpu=list(BATCHES), gpu=list(BATCHES))
        found = {size: measure_step(size, 3 if size < 256 else 1, self.clock) for size in sizes}
        return {f"{size} px: {name}": value for size, row in found.items() for name, value in row.items()}

    @cached_property
    def encoding(self) -> dict[str, float]:
        """Seconds and operations, measured without the cache."""
        return self._kept("encoding", self._encode)

    def _encode(self) -> dict[str, float]:
        train, found = self.parts["train"], {}
        count = min(_TIMED, len(train))
        for name, part in ((f"encoding of {count:,} pictures", train.subset(torch.arange(count))), ("encoding", train)):
            with TemporaryDirectory() as folder:
                started = self.clock()
                encode_set(self.expert, part, Path(folder), progress=False)
                found[f"{name}: seconds"] = self.clock() - started
        batch = train.batch(torch.arange(4), self.expert.config.size).to(self.job.profile.device)
        found["encoding: operations"] = count_flops(lambda: self.expert.encode(batch)) / 4 * len(train)
        return found

    def _kept(self, name: str, measure: Callable[[], dict]) -> dict[str, Any]:
        """From the file of an earlier call, or measured now."""
        path = self.job.work / NAME / f"{name}.json"
        if not path.is_file():
            _write(path, measure())
        return json.loads(path.read_text())

    def finished(self, player: Player, seconds: float) -> dict[str, Any]:
        """Points of the curve, metrics and samples of one player."""
        return self._kept(player.name.replace(", ", "-").replace(" ", "-"), lambda: self._play(player, seconds))

    def _play(self, player: Player, seconds: float) -> dict[str, Any]:
        runs = {rate: _Run(self, player, rate) for rate in player.rates}
        trials = {rate: run.go(seconds / _TRIAL)["points"][-1]["val"] for rate, run in runs.items() if len(runs) > 1}
        rate = min(runs, key=lambda rate: trials.get(rate, 0.0))
        found = runs[rate].go(seconds)
        last = found["points"][-1]
        found["metrics"] = {
            f"{DISTANCE} on test": last[DISTANCE],
            "seconds a step": last["training"] / last["steps"],
            "operations a step": found["operations"],
            "operations a step and picture": found["operations"] / player.batch_size,
            "trained numbers": found["numbers"],
        }
        found["rates"] = {f"{rate:g}": value for rate, value in trials.items()} or {f"{rate:g}": last["val"]}
        print(
            f"{player.name}: {last[DISTANCE]:.4g} after {last['seconds']:.0f} s and {last['steps']} steps", flush=True
        )
        return found

    def build(self, player: Player, rate: float) -> Method:
        """The method, from weights that depend on the job's seed alone."""
        seed_everything(self.job.seed)
        if player.fine_tuned is None:
            return MindMethod(
                encode_set(self.expert, self.parts["train"]), self.config, rate=rate, average=player.average
            )
        options = {"fine_tuned": player.fine_tuned, "rate": rate, "average": player.average}
        return WholeMethod(self.parts["train"], self.expert, self.config, **options)

    def draw(self, player: Player, network: nn.Module, count: int, seed: int) -> Tensor:
        """``(count, 3, S, S)`` pictures."""
        if player.fine_tuned is None:
            return TransferredGAN(network, self.expert).sample(count, seed)
        return WholeMethod.sample(network, uniform_noise(count, self.config, torch.Generator().manual_seed(seed)))

    def distance(self, data: ImageSet, draw: Callable[[int], Tensor]) -> float:
        """Of as many samples to the pictures of ``data``."""
        real = real_features(data, self.features, self.expert.config.size)
        return frechet_distance(real, self.features.features(draw(len(data))))


class _Run:
    """One player with one learning rate, from stop to stop."""

    def __init__(self, bench: _Bench, player: Player, rate: float):
        self.bench, self.player = bench, player
        self.name = f"{NAME}/{player.name.replace(', ', '-').replace(' ', '-')}-{rate:g}"
        self.path = bench.job.work / self.name / "points.json"
        counted = bench.build(player, rate)  # a method of its own, whose running statistics may change
        batch = counted.batch(torch.arange(4), torch.Generator())
        self.operations = count_flops(method_iteration(counted, batch)) / 4 * player.batch_size
        self.method = bench.build(player, rate)

    @property
    def points(self) -> list[dict[str, float]]:
        """What has been scored so far, in this or an earlier call."""
        return json.loads(self.path.read_text())["points"] if self.path.is_file() else []

    def go(self, seconds: float) -> dict[str, Any]:
        """Trains until about ``seconds`` are used, with a score after each doubling of the steps."""
        points = self.points
        # The next point takes twice the time of the last: go on while that is nearer to the budget than staying.
        while not points or 1.5 * points[-1]["training"] <= seconds:
            self._advance(points)
        return {**json.loads(self.path.read_text()), "operations": self.operations}

    def _advance(self, points: list[dict[str, float]]) -> None:
        bench, player = self.bench, self.player
        small = player.fine_tuned is None
        # Small products gain nothing from half precision.
        precision = "32-true" if small else bench.job.precision
        job = replace(bench.job, steps=player.first * 2 ** len(points), seconds=None, precision=precision)
        options = {"checkpoint_every": 0, "preview_every": 0, "log_every": 50, "progress": False}
        busy, wall = bench.clock(), time.perf_counter()
        history = job.run(self.name, self.method, player.batch_size, 0, **options)
        share = (bench.clock() - busy) / (time.perf_counter() - wall)
        if points:
            spent = points[-1]["training"] + (history.seconds - points[-1]["wall"]) * share
        else:
            spent = history.seconds * share
        network = history.averaged["generator"].eval()
        before = bench.encoding if small else {}
        point = {"steps": history.steps, "training": spent, "wall": history.seconds}
        point["seconds"] = spent + before.get("encoding: seconds", 0.0)
        point["operations"] = history.steps * self.operations + before.get("encoding: operations", 0.0)
        for key, part in (("val", "val"), (DISTANCE, "test")):
            point[key] = bench.distance(bench.parts[part], partial(bench.draw, player, network, seed=0))
        points.append(point)
        pictures = ((bench.draw(player, network, _SAMPLES, 1) + 1) * 127.5).round().to(torch.uint8)
        numbers = sum(p.numel() for m in self.method.modules.values() for p in m.parameters())
        _write(self.path, {"points": points, "samples": pictures.tolist(), "numbers": numbers})
        print(f"{self.name}: {point['steps']} steps, {spent:.1f} s, {point[DISTANCE]:.2f}", flush=True)


def _write(path: Path, found: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda part: part.write_text(json.dumps(found)))
