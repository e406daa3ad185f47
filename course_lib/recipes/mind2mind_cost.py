"""What one training step costs: the whole GAN against MindGAN, in floating-point operations and in seconds.

Operations are counted on tensors without memory, so that 1024 pixels fit on a laptop; a product and its sum are two.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..errors import CourseError
from ..gans.alae import ALAE, PUBLISHED_ALAE, ALAEConfig
from ..gans.training import latent_reciprocity, logistic_critic, logistic_generator, r1_penalty
from ..mind2mind import MindConfig, MindMethod
from ..training.method import Method, frozen

__all__ = [
    "BATCHES",
    "alae_iteration",
    "config_at",
    "count_flops",
    "iteration_flops",
    "iteration_seconds",
    "measure_step",
    "method_iteration",
    "mind_iteration",
]

BATCHES = {64: 8, 128: 4, 256: 2, 512: 1, 1024: 1}
"""Size in pixels → pictures in the whole GAN's step: what a few GB of memory hold."""
_PUBLISHED = 128


def config_at(size: int) -> ALAEConfig:
    """ALAE's FFHQ model at the level of detail of ``size`` pixels.

    Raises:
        CourseError: it has no such level.
    """
    published = PUBLISHED_ALAE["ffhq"]
    level = size.bit_length() - 2
    if size != 2 ** (level + 1) or not 2 <= level <= len(published.channels):
        raise CourseError(f"the FFHQ model grows through 8, 16, …, {published.size} pixels, not {size}.")
    return replace(published, channels=published.channels[:level])


def alae_iteration(network: ALAE, images: Tensor, penalised: bool = True) -> Callable[[], None]:
    """A function that runs forward and backward passes of ALAE's three steps on one batch, without the optimisers.

    Args:
        network: on any device, ``meta`` included.
        images: ``(B, colours, S, S)``.
        penalised: with the R1 penalty, which published training applies in every step.
    """
    generator, encoder, score = network.generator, network.encoder, network.score
    z = torch.randn(len(images), network.latent_dim, device=images.device)
    noise = [torch.randn(len(images), 2, b.size, b.size, device=images.device) for b in generator.decoder.blocks]

    def losses() -> Iterator[Tensor]:
        with torch.no_grad():
            fake, _ = generator(z, noise)
        real = images.detach().requires_grad_(penalised)
        on_real = score(encoder(real))
        value = logistic_critic(on_real, score(encoder(fake)))
        yield value + 5.0 * r1_penalty(on_real, real) if penalised else value
        with frozen(encoder), frozen(score):
            yield logistic_generator(score(encoder(generator(z, noise)[0])))
        picture, w = generator(z, noise)
        yield latent_reciprocity(encoder(picture), w)

    def run() -> None:
        for loss in losses():
            loss.backward()
            network.zero_grad(set_to_none=True)

    return run


def mind_iteration(config: MindConfig, batch_size: int, device: str = "cpu") -> Callable[[], None]:
    """The same for MindGAN: five critic steps with their penalty, one of the generator."""
    method = MindMethod(torch.randn(batch_size, config.latent), config)
    method.modules = {name: module.to(device) for name, module in method.modules.items()}
    method.to_device(torch.device(device))
    return method_iteration(method, method.codes)


def method_iteration(method: Method, batch: Any) -> Callable[[], None]:
    """The same for any method: all its phases on one batch.

    Args:
        method: its modules are where its batches are.
        batch: what its ``batch`` returns.
    """
    draws = torch.Generator().manual_seed(0)

    def run() -> None:
        for loss in method.losses(batch, draws, 0):
            loss.value.backward()
            for module in method.modules.values():
                module.zero_grad(set_to_none=True)

    return run


class _Counter(TorchDispatchMode):
    """PyTorch's formulas without its bookkeeping of modules, which penalties inside a backward pass confuse."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of one call, forward and backward; products and convolutions only."""
    with _Counter() as counter:
        run()
    return counter.total


def iteration_flops(size: int, batch_size: int = 1, config: MindConfig | None = None) -> tuple[int, int]:
    """Operations of one iteration a picture: ALAE at ``size`` pixels, and MindGAN on its codes.

    Args:
        size: in pixels, a level of the FFHQ model.
        batch_size: counted with so many pictures, then divided.
        config: of MindGAN; the published one by default.
    """
    with torch.device("meta"):
        network = ALAE(config_at(size))
        images = torch.empty(batch_size, 3, size, size)
    whole = count_flops(alae_iteration(network, images))
    small = count_flops(mind_iteration(config or MindConfig(), batch_size))
    return whole // batch_size, small // batch_size


def iteration_seconds(
    run: Callable[[], None],
    repeats: int = 3,
    precision: torch.dtype | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """The shortest of ``repeats`` timed calls after one that warms up, in seconds.

    Args:
        run: of :func:`alae_iteration` or :func:`mind_iteration`.
        repeats: timed calls.
        precision: of autocast on the CPU; None for float32.
        clock: seconds; ``time.process_time`` for one thread on a busy machine.
    """
    context = nullcontext if precision is None else lambda: torch.autocast("cpu", precision)
    times = []
    for _ in range(repeats + 1):
        start = clock()
        with context():
            run()
        times.append(clock() - start)
    return min(times[1:])


def measure_step(size: int, rounds: int = 3, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Seconds and operations of one step of a whole GAN and of MindGAN, both with random weights, published shapes.

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
