"""A training step of a whole GAN of the published shapes against one of MindGAN, by picture size, measured."""

import time
from collections.abc import Callable

import torch

from ..gans.alae import ALAE
from .cost import alae_iteration, config_at, iteration_flops, iteration_seconds, mind_iteration
from .networks import MindConfig

__all__ = ["BATCHES", "measure_step"]

BATCHES = {64: 8, 128: 4, 256: 2, 512: 1, 1024: 1}
"""Size in pixels → pictures in the whole GAN's step: what a few GB of memory hold."""
_PUBLISHED = 128


def measure_step(size: int, rounds: int = 3, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Seconds and operations of one step, both with random weights, of the published shapes.

    The whole GAN is ALAE's FFHQ model at the level of detail of ``size`` pixels; its step is measured in float32 and
    in bfloat16 autocast, and the faster one counts. MindGAN's step is measured with as many codes and, as published,
    with 128.

    Args:
        size: key of :data:`BATCHES`.
        rounds: timed steps of each, after one that is not; the fastest counts.
        clock: seconds.

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
            f"whole, {str(precision).removeprefix('torch.')}": iteration_seconds(run, rounds, autocast, clock)
            for precision, autocast in ((torch.float32, None), (torch.bfloat16, torch.bfloat16))
        }
        small, published = (
            iteration_seconds(mind_iteration(MindConfig(), count), max(rounds, 5), clock=clock)
            for count in (batch, _PUBLISHED)
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
