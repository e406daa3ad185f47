"""The one training loop of the course, on Lightning Fabric.

It knows no method: see :class:`~course_lib.training.method.Method` for what a method gives. Every random number of step
``s`` comes from seeds made of (seed, s, rank), and so do the data indices. That is why a run that was killed and resumed ends
in the same bits as one that was not: there is no generator state or data position that could get out of step.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from lightning.fabric import Fabric
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from ..errors import CourseError
from .checkpoints import flatten_optimizer, load_state, save_state, unflatten_optimizer
from .method import Loss, Method
from .sampler import ShuffledIndices
from .tensorboard import Board

__all__ = ["Budget", "History", "Loss", "Method", "train"]

STATE_FILE = "state.safetensors"


@dataclass(frozen=True)
class Budget:
    """When to stop: after ``steps``, or after ``seconds`` of training (earlier runs of a resumed training included)."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise CourseError("a training budget needs steps, seconds or both.")

    def progress(self, step: int, seconds: float) -> float:
        """Share used, in [0, 1]."""
        shares = [step / max(1, self.steps)] if self.steps is not None else []
        shares += [seconds / self.seconds] if self.seconds else []
        return min(1.0, max(shares))


@dataclass
class History:
    """What a run leaves: steps done, seconds of training, logged means, and the averaged modules if any."""

    steps: int = 0
    seconds: float = 0.0
    curve: dict[str, list[float]] = field(default_factory=dict)
    averaged: dict[str, nn.Module] = field(default_factory=dict)

    def log(self, step: int, scalars: dict[str, float]) -> None:
        """Appends one point."""
        for name, value in {"step": step, **scalars}.items():
            self.curve.setdefault(name, []).append(value)


def train(
    method: Method,
    budget: Budget,
    batch_size: int,
    *,
    folder: Path | str | None = None,
    resume: bool = False,
    seed: int = 0,
    accumulate: int = 1,
    precision: str = "32-true",
    accelerator: str = "cpu",
    devices: int | None = None,
    clip_norm: float | None = None,
    log_every: int = 50,
    checkpoint_every: int = 1000,
    preview_every: int = 1000,
    progress: bool = True,
) -> History:
    """Trains ``method`` until the budget is used.

    Args:
        method: see :class:`Method`; its modules are trained in place.
        budget: steps or seconds.
        batch_size: items per process and micro-batch; one step sees ``batch_size · accumulate · processes``.
        folder: where checkpoints and TensorBoard files go; None keeps nothing.
        resume: continue from the checkpoint in ``folder`` if there is one. On the same machine the result has the same
            bits as an uninterrupted run with the same budget in steps.
        seed: of data order, augmentation and noise.
        precision: as Fabric names it: ``32-true``, ``bf16-mixed``, ``16-mixed``.
        accelerator: ``cpu`` or ``cuda``.
        devices: processes on this machine; by default what ``torchrun`` says, else one.
        clip_norm: largest gradient norm of each optimiser.

    Raises:
        CourseError: a loss is not finite (names step and loss; the last checkpoint is kept), the checkpoint is damaged
            or of another method, the disk is full, or a setting is impossible.
    """
    devices = devices or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if accumulate < 1 or batch_size < 1:
        raise CourseError("batch_size and accumulate must be at least 1.")
    fabric = Fabric(
        accelerator=accelerator, devices=devices, precision=precision, strategy="ddp" if devices > 1 else "auto"
    )
    fabric.launch()
    run = _Run(fabric, method, budget, batch_size, accumulate, seed, clip_norm, Path(folder) if folder else None)
    if resume and run.folder and (run.folder / STATE_FILE).is_file():
        run.restore()
    return run.loop(log_every, checkpoint_every, preview_every, progress)


class _Run:
    """State of one call of :func:`train`."""

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        budget: Budget,
        batch_size: int,
        accumulate: int,
        seed: int,
        clip_norm: float | None,
        folder: Path | None,
    ):
        self.fabric, self.method, self.budget, self.seed = fabric, method, budget, seed
        self.accumulate, self.clip_norm, self.folder = accumulate, clip_norm, folder
        self.history, self.pending = History(), []
        self.sums: dict[str, list[float]] = {}
        method.to_device(fabric.device)
        self.originals = dict(method.modules)
        # Each process adds random numbers of its own later; the weights must start equal.
        method.plain = self.originals
        method.modules = {name: fabric.setup_module(module.train()) for name, module in self.originals.items()}
        self.optimizers = {name: fabric.setup_optimizers(one) for name, one in method.optimizers.items()}
        self.base_rates = {n: [g["lr"] for g in one.param_groups] for n, one in method.optimizers.items()}
        self.averages = {
            name: AveragedModel(self.originals[name], multi_avg_fn=get_ema_multi_avg_fn(decay))
            for name, decay in method.ema.items()
        }
        self.indices = ShuffledIndices(method.length, batch_size, seed, fabric.global_rank, fabric.world_size)

    # --- one step ---------------------------------------------------------------------------------------------------

    def _generator(self, step: int, *parts: int) -> torch.Generator:
        """Seeds the global generators (dropout) and returns one, all from (seed, step, rank, parts)."""
        mixed = self.seed
        for part in (step, self.fabric.global_rank, *parts):
            mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**63
        torch.manual_seed(mixed)
        return torch.Generator().manual_seed(mixed)

    def _step(self, step: int) -> None:
        factor = self.method.learning_rate(self.budget.progress(step, self.history.seconds))
        for name, optimizer in self.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = rate * factor
        phases = []
        for micro in range(self.accumulate):
            generator = self._generator(step, micro, 0)
            batch = self.method.batch(self.indices(step * self.accumulate + micro), generator)
            phases.append((iter(self.method.losses(batch, generator, step)), generator))
        phase = 0
        while self._phase(step, phase, phases):
            phase += 1
        for name, average in self.averages.items():
            average.update_parameters(self.originals[name])

    def _phase(self, step: int, phase: int, phases: list) -> bool:
        """Runs one optimiser phase over all micro-batches; False when the method has no further phase."""
        optimizer = None
        for micro, (losses, generator) in enumerate(phases):
            generator.manual_seed(self._generator(step, micro, phase + 1).initial_seed())
            with ExitStack() as stack:
                if self.fabric.world_size > 1 and micro < self.accumulate - 1:
                    for module in self.method.modules.values():
                        stack.enter_context(self.fabric.no_backward_sync(module))
                loss: Loss | None = next(losses, None)
                if loss is None:
                    return False
                if optimizer is None:
                    optimizer = self.optimizers[loss.optimizer]
                    optimizer.zero_grad(set_to_none=True)
                self.fabric.backward(loss.value / self.accumulate)
            self._record(step, loss)
        if self.clip_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)
        optimizer.step()
        return True

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _record(self, step: int, loss: Loss) -> None:
        self.pending.append((step, {f"loss/{loss.optimizer}": loss.value, **loss.scalars}))
        # Reading a number waits for a GPU; there it is done once per logging interval.
        if self.fabric.device.type == "cpu":
            self._read_pending()

    def _read_pending(self) -> None:
        for step, scalars in self.pending:
            for name, value in scalars.items():
                number = float(value.detach()) if isinstance(value, torch.Tensor) else float(value)
                if not math.isfinite(number):
                    kept = f" The last checkpoint is in {self.folder}." if self.folder else ""
                    raise CourseError(
                        f"{name} became {number} at step {step}: lower the learning rate or clip gradients.{kept}"
                    )
                self.sums.setdefault(name, []).append(number)
        self.pending.clear()

    # --- state ------------------------------------------------------------------------------------------------------

    def save(self, step: int) -> None:
        """Writes everything a resumed run needs, on process zero."""
        if self.folder is None or not self.fabric.is_global_zero:
            return
        tensors, plain = (
            {},
            {"step": step, "seconds": self.history.seconds, "curve": self.history.curve, "seed": self.seed},
        )
        for kind, modules in (("module", self.originals), ("ema", self.averages)):
            for name, module in modules.items():
                tensors |= {f"{kind}/{name}/{key}": value for key, value in module.state_dict().items()}
        plain["optimizers"] = {}
        for name, optimizer in self.method.optimizers.items():
            flat, plain["optimizers"][name] = flatten_optimizer(optimizer.state_dict())
            tensors |= {f"optimizer/{name}/{key}": value for key, value in flat.items()}
        save_state(self.folder / STATE_FILE, tensors, plain)

    def restore(self) -> None:
        """Continues from the checkpoint in the folder."""
        tensors, plain = load_state(self.folder / STATE_FILE)
        if plain["seed"] != self.seed:
            raise CourseError(
                f"the checkpoint in {self.folder} was made with seed {plain['seed']}: resume with that seed."
            )

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}

        try:
            for kind, modules in (("module", self.originals), ("ema", self.averages)):
                for name, module in modules.items():
                    module.load_state_dict(part(f"{kind}/{name}/"))
            for name, optimizer in self.method.optimizers.items():
                optimizer.load_state_dict(unflatten_optimizer(part(f"optimizer/{name}/"), plain["optimizers"][name]))
        except (RuntimeError, KeyError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CourseError(f"the checkpoint in {self.folder} is of another method or size ({first}).") from error
        self.history.steps, self.history.seconds, self.history.curve = plain["step"], plain["seconds"], plain["curve"]

    # --- the loop ---------------------------------------------------------------------------------------------------

    def loop(self, log_every: int, checkpoint_every: int, preview_every: int, progress: bool) -> History:
        """Steps until the budget is used or the user interrupts."""
        step, history, zero = self.history.steps, self.history, self.fabric.is_global_zero
        board = Board(self.folder if zero else None, step)
        bar = tqdm(total=self.budget.steps, initial=step, disable=None if progress and zero else True, unit="step")
        started = time.perf_counter() - history.seconds
        try:
            with _interruptible() as interrupted:
                while not self._finished(step, interrupted):
                    self._step(step)
                    step += 1
                    history.steps, history.seconds = step, time.perf_counter() - started
                    bar.update()
                    if step % log_every == 0 or step == self.budget.steps:
                        self._log(step, board, bar)
                    if preview_every and step % preview_every == 0 and zero:
                        board.pictures("preview", self.method.preview, step)
                    if checkpoint_every and step % checkpoint_every == 0:
                        self._read_pending()
                        self.save(step)
            self._read_pending()
            self.save(step)
            if interrupted.is_set():
                self._report_interrupt(step)
        finally:
            bar.close()
            board.close()
            self.method.modules, self.method.plain = dict(self.originals), {}
        history.averaged = {name: average.module for name, average in self.averages.items()}
        return history

    def _finished(self, step: int, interrupted: threading.Event) -> bool:
        stop = interrupted.is_set() or self.budget.progress(step, self.history.seconds) >= 1.0
        # Clocks differ between processes; all follow the first.
        return self.fabric.broadcast(stop) if self.fabric.world_size > 1 else stop

    def _log(self, step: int, board: Board, bar: tqdm) -> None:
        self._read_pending()
        means = {name: sum(values) / len(values) for name, values in self.sums.items()}
        self.sums.clear()
        self.history.log(step, means)
        board.scalars(means, step)
        bar.set_postfix({name.split("/")[-1]: f"{value:.3g}" for name, value in list(means.items())[:3]})

    def _report_interrupt(self, step: int) -> None:
        where = f"; continue with resume=True from {self.folder}" if self.folder else ""
        print(f"Stopped after step {step}{where}.")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns the first interrupt into a flag, so that no optimiser step is cut in half; the second one raises as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(signum: int, frame: object) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
