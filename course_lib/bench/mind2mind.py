"""``python -m course_lib.bench mind2mind``: a training step of a whole GAN against one of MindGAN, by picture size."""

from typing import Any

import torch

from course_lib.gans.alae import ALAE
from course_lib.mind2mind import MindConfig
from course_lib.mind2mind.cost import alae_iteration, config_at, iteration_flops, iteration_seconds, mind_iteration

__all__ = ["BATCHES", "main", "measure", "table"]

BATCHES = {64: 8, 128: 4, 256: 2, 512: 1, 1024: 1}
"""Size in pixels → pictures in the whole GAN's step: what a few GB of memory hold."""
_PUBLISHED = 128


def measure(size: int, rounds: int = 3) -> dict[str, float]:
    """Seconds and operations of one step, both with random weights, of the published shapes.

    The whole GAN is ALAE's FFHQ model at the level of detail of ``size`` pixels; its step is measured in float32 and
    in bfloat16 autocast, and the faster one counts. MindGAN's step is measured with as many codes and, as published,
    with 128.

    Args:
        size: key of :data:`BATCHES`.
        rounds: timed steps of each, after one that is not; the fastest counts.

    Returns:
        ``batch``; seconds a step ``whole, float32``, ``whole, bfloat16``, ``MindGAN`` (as many codes), ``MindGAN at
        128``; the ratios ``ratio a step`` and ``ratio a picture``; operations a picture ``whole: operations`` and
        ``MindGAN: operations``.
    """
    batch = BATCHES[size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, images = ALAE(config_at(size)), torch.randn(batch, 3, size, size)
        run = alae_iteration(network.to(memory_format=torch.channels_last), images)
        whole = {
            f"whole, {str(precision).removeprefix('torch.')}": iteration_seconds(run, rounds, autocast)
            for precision, autocast in ((torch.float32, None), (torch.bfloat16, torch.bfloat16))
        }
        small, published = (
            iteration_seconds(mind_iteration(MindConfig(), count), max(rounds, 5)) for count in (batch, _PUBLISHED)
        )
    best = min(whole.values())
    flops = iteration_flops(size)
    return {
        "batch": batch,
        **whole,
        "MindGAN": small,
        f"MindGAN at {_PUBLISHED}": published,
        "ratio a step": best / small,
        "ratio a picture": (best / batch) / (published / _PUBLISHED),
        "whole: operations": flops[0],
        "MindGAN: operations": flops[1],
    }


def table(found: dict[int, dict[str, float]]) -> str:
    """One line a size: milliseconds of a step, ratios of measured times, ratio of counted operations."""
    columns = ("pixels", "batch", "whole fp32", "whole bf16", "MindGAN", "ratio", "a picture", "operations")
    lines = ["".join(f"{column:>12}" for column in columns)]
    for size, row in found.items():
        times = (row[name] * 1e3 for name in ("whole, float32", "whole, bfloat16", "MindGAN"))
        ratios = (row["ratio a step"], row["ratio a picture"], row["whole: operations"] / row["MindGAN: operations"])
        cells = [f"{size}", f"{row['batch']:.0f}", *(f"{t:,.1f} ms" for t in times), *(f"{r:,.0f}x" for r in ratios)]
        lines.append("".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def main(rounds: int, sizes: list[int]) -> dict[str, Any]:
    """Prints the table and returns the numbers."""
    # Large pictures take long and vary little.
    found = {size: measure(size, min(rounds, 3) if size < 512 else 1) for size in sizes}
    print("One training step: a whole ALAE of the published shapes against MindGAN with as many codes.")
    print("A picture: against MindGAN at its published batch of 128. Operations: counted, a picture.")
    print("Random weights; the optimisers are not in it.\n" + table(found), flush=True)
    return {str(size): row for size, row in found.items()}
