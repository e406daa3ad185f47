"""What per-class kernels cost over the source generator's own convolutions."""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from course_lib import hypermod as hyper_generator
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.hypermod import HyperGenerator

__all__ = ["SHAPES", "KernelRoute", "kernel_routes", "main", "measure"]

_PUBLISHED = (512, 512, 512, 512, 256, 128, 64)
SHAPES = {32: (128, 128, 64, 32), 64: (256, 256, 256, 128, 64), 256: _PUBLISHED}
"""Size in pixels → channels of the blocks; 256 is the published generator."""


@dataclass(frozen=True)
class KernelRoute:
    """One way to draw a batch.

    Attributes:
        name: in the table.
        run: draws it, with or without gradients.
        trains: whether it can train: finished kernels cannot.
    """

    name: str
    run: Callable[[], Tensor]
    trains: bool = True


def kernel_routes(hyper: HyperGenerator, batch: int, classes: int) -> list[KernelRoute]:
    """All ways to draw a batch of a few classes; the first is the source generator alone."""
    draws = torch.Generator().manual_seed(0)
    z, noise = torch.randn(batch, hyper.config.latent, generator=draws), hyper.synthesis.noise(batch, draws)
    labels = torch.arange(batch) % classes
    with torch.no_grad():
        finished = hyper.modulation(torch.arange(classes))

    def forced(limit: float, given: Any, owner: Tensor | None = None) -> Callable[[], Tensor]:
        def run() -> Tensor:
            before, hyper_generator.GROUPED_FROM = hyper_generator.GROUPED_FROM, limit
            try:
                return hyper(z, given, noise, owner=owner)
            finally:
                hyper_generator.GROUPED_FROM = before

        return run

    return [
        KernelRoute("source generator", lambda: hyper(z, None, noise), False),
        KernelRoute("heads for every picture, grouped", lambda: hyper(z, hyper.classes(labels), noise)),
        KernelRoute("heads once a class, grouped", forced(0.0, labels)),
        KernelRoute("heads once a class, a convolution a class", forced(1.0, labels)),
        KernelRoute("finished kernels, grouped", forced(0.0, finished, labels), False),
        KernelRoute("finished kernels, a convolution a class", forced(1.0, finished, labels), False),
    ]


def measure(size: int, batch: int, classes: int, rounds: int) -> dict[str, dict[str, float]]:
    """Name of the route → task → median seconds of a batch, all ways in turn.

    Args:
        size: key of :data:`SHAPES`.
        batch: pictures.
        classes: among them, evenly.
        rounds: timed, after one that is not.
    """
    channels = SHAPES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # At 256 pixels full heads of width 64 would take a gigabyte; the products are those of a narrow class vector.
        hyper = HyperGenerator(StyleGAN(StyleGANConfig(channels, channels, channels[0])), classes, width=8).eval()
    ways = kernel_routes(hyper, batch, classes)
    found: dict[str, dict[str, list[float]]] = {way.name: {} for way in ways}
    for turn in range(rounds + 1):
        for way in ways:
            for task in ("draw", "train"):
                if task == "train" and not way.trains:
                    continue
                started = time.perf_counter()
                with torch.set_grad_enabled(task == "train"):
                    pictures = way.run()
                    if task == "train":
                        pictures.square().mean().backward()
                if turn:
                    found[way.name].setdefault(task, []).append(time.perf_counter() - started)
    return {name: {task: statistics.median(times) for task, times in tasks.items()} for name, tasks in found.items()}


def table(title: str, found: dict[str, dict[str, float]]) -> str:
    """Milliseconds and ratio to the source generator's drawing, one line a way."""
    base = found["source generator"]["draw"]
    lines = [title, f"{'':44}{'draw':>20}{'forward + backward':>24}"]
    for name, tasks in found.items():
        cells = [f"{tasks[t] * 1e3:9.1f} ms {tasks[t] / base:5.2f}x" if t in tasks else "-" for t in ("draw", "train")]
        lines.append(f"{name:44}{cells[0]:>20}{cells[1]:>24}")
    return "\n".join(lines)


def main(chosen: argparse.Namespace) -> dict[str, Any]:
    """Prints one table for each size, batch and number of classes, and returns the numbers."""
    collected = {}
    for size in chosen.sizes:
        for batch, classes in ((24, 6), (8, 8), (24, 1)) if size < 256 else ((8, 4),):
            title = f"{size} pixels, batch {batch}, {classes} classes"
            collected[title] = measure(size, batch, classes, chosen.rounds)
            print("\n" + table(title, collected[title]), flush=True)
    return collected
