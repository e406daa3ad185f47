"""The one training loop of the course, on Lightning Fabric.

It knows no method: see :class:`~course_lib.training.method.Method` for what a method gives. Every random number of step
``s`` comes from seeds made of (seed, s, rank), and so do the data indices. That is why a run that was killed and
resumed ends in the same bits as one that was not: no generator state or data position could get out of step.
"""

import threading
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import CourseError
from ..progress import progress_bar
from .budget import Budget, History
from .interrupt import interruptible
from .launch import launch, partial_gradients
from .meter import Meter
from .method import Loss, Method
from .sampler import ShuffledIndices
from .snapshot import Snapshot
from .tensorboard import Board

if TYPE_CHECKING:
    from lightning.fabric import Fabric

__all__ = ["Budget", "History", "Loss", "Method", "train"]


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
    if min(batch_size, accumulate, log_every) < 1 or min(checkpoint_every, preview_every) < 0:
        raise CourseError("batch_size, accumulate and log_every must be at least 1, the other intervals at least 0.")
    fabric = launch(accelerator, devices, precision)
    # Layers draw their noise from the global generators, which every step seeds; the caller's state comes back.
    cuda = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        run = _Run(fabric, method, budget, batch_size, accumulate, seed, clip_norm, Path(folder) if folder else None)
        try:
            run.start(resume)
            return run.loop(log_every, checkpoint_every, preview_every, progress)
        finally:
            run.release()


class _Run:
    """State of one call of :func:`train`."""

    def __init__(
        self,
        fabric: "Fabric",
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
        self.history, self.meter = History(), Meter(eager=fabric.device.type == "cpu")
        self.indices = ShuffledIndices(method.length, batch_size, seed, fabric.global_rank, fabric.world_size)
        self.originals = dict(method.modules)
        self.base_rates = {n: [g["lr"] for g in one.param_groups] for n, one in method.optimizers.items()}
        self.optimizers, self.averages = {}, {}
        self.snapshot: Snapshot | None = None

    def start(self, resume: bool) -> None:
        """Hands the networks to Fabric and, if asked, loads where an earlier run stopped."""
        method, fabric = self.method, self.fabric
        method.to_device(fabric.device)
        method.plain, method.autocast = self.originals, fabric.autocast
        # Under DDP this also gives every process the weights of the first.
        method.modules = {name: fabric.setup_module(module.train()) for name, module in self.originals.items()}
        self.optimizers = {name: fabric.setup_optimizers(one) for name, one in method.optimizers.items()}
        self.averages = {
            name: AveragedModel(self.originals[name], multi_avg_fn=get_ema_multi_avg_fn(decay))
            for name, decay in method.ema.items()
        }
        if self.folder is None:
            return
        precision = fabric.strategy.precision
        self.snapshot = Snapshot(self.folder, self.originals, self.averages, method.optimizers, precision, self.seed)
        if fabric.is_global_zero:
            self.snapshot.discard_parts()
        if resume and self.snapshot.exists():
            self.meter.sums = self.snapshot.restore(self.history)

    def release(self) -> None:
        """Gives the method its own networks and learning rates back."""
        self.method.modules, self.method.plain = dict(self.originals), {}
        self.method.autocast = nullcontext
        for name, optimizer in self.method.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = rate

    # --- one step ---------------------------------------------------------------------------------------------------

    def _generator(self, step: int, *parts: int) -> torch.Generator:
        """Seeds the global generators (dropout) and returns one, all from (seed, step, rank, parts)."""
        mixed = self.seed
        for part in (step, self.fabric.global_rank, *parts):
            mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**63
        if self.fabric.device.type == "cpu":
            # What torch.manual_seed does besides, noting this call for GPUs, is a fifth of a small network's step.
            torch.default_generator.manual_seed(mixed)
        else:
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
        optimizers: list[torch.optim.Optimizer] = []
        for micro, (losses, generator) in enumerate(phases):
            generator.manual_seed(self._generator(step, micro, phase + 1).initial_seed())
            with ExitStack() as stack:
                stack.enter_context(partial_gradients())
                if self.fabric.world_size > 1 and micro < self.accumulate - 1:
                    for module in self.method.modules.values():
                        stack.enter_context(self.fabric.no_backward_sync(module))
                loss: Loss | None = next(losses, None)
                if loss is None:
                    return False
                if not optimizers:
                    optimizers = [self.optimizers[name] for name in (loss.optimizer, *loss.also)]
                    for optimizer in optimizers:
                        optimizer.zero_grad(set_to_none=True)
                self.fabric.backward(loss.value / self.accumulate)
            self.meter.add(step, loss)
        for optimizer in optimizers:
            if self.clip_norm is not None:
                self._clip(optimizer)
            optimizer.step()
        return True

    def _clip(self, optimizer: torch.optim.Optimizer) -> None:
        """Through Fabric, which first divides by the loss scale where there is one."""
        module = next(iter(self.method.modules.values()))
        try:
            self.fabric.clip_gradients(module, optimizer, max_norm=self.clip_norm, error_if_nonfinite=False)
        except RuntimeError as error:
            raise CourseError(
                f"gradients cannot be clipped here ({error}): use bf16-mixed, or optimisers with fused=False."
            ) from error

    # --- state ------------------------------------------------------------------------------------------------------

    def save(self, step: int) -> None:
        """Checks the weights and writes the state, on process zero; the others wait for it.

        Raises:
            CourseError: a weight is not finite, which a finite loss can hide for one step; the last checkpoint is kept.
        """
        self.meter.read()
        for name, module in self.originals.items():
            if not all(parameter.isfinite().all() for parameter in module.parameters()):
                raise CourseError(
                    f"the weights of {name} are no longer finite after step {step}: lower the learning rate or clip "
                    "gradients."
                )
        if self.snapshot is None:
            return
        if self.fabric.is_global_zero:
            self.snapshot.save(self.history, self.meter.sums)
        self.fabric.barrier()

    # --- the loop ---------------------------------------------------------------------------------------------------

    def loop(self, log_every: int, checkpoint_every: int, preview_every: int, progress: bool) -> History:
        """Steps until the budget is used or the user interrupts."""
        step, history, zero = self.history.steps, self.history, self.fabric.is_global_zero
        board = Board(self.folder if zero else None, step + 1)
        bar = progress_bar(progress and zero, total=self.budget.steps, initial=step, unit="step")
        started = time.perf_counter() - history.seconds
        try:
            with interruptible() as interrupted:
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
                        self.save(step)
                if self.meter.sums or self.meter.pending:
                    self._log(step, board, bar)
                self.save(step)
            if interrupted.is_set():
                self._report_interrupt(step)
        except CourseError as error:
            if self.snapshot is None or not self.snapshot.exists():
                raise
            raise CourseError(f"{error} The last checkpoint is in {self.folder}.") from error
        finally:
            bar.close()
            board.close()
        history.averaged = {name: average.module for name, average in self.averages.items()}
        return history

    def _finished(self, step: int, interrupted: threading.Event) -> bool:
        stop = interrupted.is_set() or self.budget.progress(step, self.history.seconds) >= 1.0
        if self.fabric.world_size > 1:
            # Clocks differ between processes; all follow the first, also in their learning rates.
            stop, self.history.seconds = self.fabric.broadcast((stop, self.history.seconds))
        return stop

    def _log(self, step: int, board: Board, bar: Any) -> None:
        means = self.meter.means()
        self.history.log(step, means)
        board.scalars(means, step)
        bar.set_postfix({name.split("/")[-1]: f"{value:.3g}" for name, value in list(means.items())[:3]})

    def _report_interrupt(self, step: int) -> None:
        where = f"; continue with resume=True from {self.folder}" if self.folder else ""
        print(f"Stopped after step {step}{where}.")
