"""The one training loop, on Lightning Fabric, for every :class:`course_lib.training.Method`. Data indices and random
numbers of step ``s`` come from (seed, s, rank): a run that was killed and resumed ends in the bits of one that was not.
"""

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import CourseError, explain, progress_bar
from .runs import Budget, History, Loss, Method, Snapshot, data_of, settings_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from torch.utils.tensorboard import SummaryWriter


def is_first_process() -> bool:
    """Whether this process, of those that ``torchrun`` started, is the one that scores and writes."""
    return os.environ.get("RANK", "0") == "0"


def launch(accelerator: str, precision: str) -> "Fabric":
    """Fabric on this process's device; ``torchrun`` says how many processes there are, here and on other machines."""
    if accelerator == "cpu" and precision.startswith("16"):  # Fabric would take bfloat16, with a mere warning
        raise CourseError(f"precision {precision} needs a GPU: use bf16-mixed or 32-true here.")
    # Imported late: it takes longer than everything else in the package, and only training needs it.
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    # It announces the precision at every start, on the error stream, where notebooks would keep it.
    for logger in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = max(1, int(os.environ.get("WORLD_SIZE", "1")) // devices) if "LOCAL_WORLD_SIZE" in os.environ else 1
    # Without broadcasts: they write into buffers that an earlier pass of the same step still needs for its gradient.
    kind = DDPStrategy(broadcast_buffers=False) if devices * nodes > 1 else "auto"
    try:
        fabric = Fabric(accelerator=accelerator, strategy=kind, devices=devices, num_nodes=nodes, precision=precision)
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise CourseError(f"training cannot start with these settings: {str(error).splitlines()[0]}") from error
    fabric.launch()
    return fabric


class _Prepared:
    """A network in the run's precision and, with several processes, under DDP; attributes are those of the network.
    Fabric's own wrapper refuses ``torch.autograd.grad`` through a network under mixed precision, because a loss might
    miss its scale. Methods use partial gradients only to weigh losses; what trains goes through ``fabric.backward``."""

    def __init__(self, fabric: "Fabric", module: nn.Module):
        strategy = fabric.strategy
        self._module, self._precision = fabric.to_device(strategy.precision.convert_module(module)), strategy.precision
        self._forward = strategy.setup_module(self._module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = self._precision.convert_input((args, kwargs))
        with self._precision.forward_context():
            found = self._forward(*args, **kwargs)
        return self._precision.convert_output(found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)

    def without_sync(self) -> AbstractContextManager:
        """Inside, gradients stay in this process, until all micro-batches have theirs."""
        return getattr(self._forward, "no_sync", nullcontext)()


class ShuffledIndices:
    """Epochs of shuffled indices below ``length``, addressed by batch number. ``batch_size`` is that of one process;
    process ``rank`` of ``world`` takes its own slice of each global batch."""

    def __init__(self, length: int, batch_size: int, seed: int = 0, rank: int = 0, world: int = 1):
        if length < 1:
            raise CourseError("there is nothing to train on: the data set is empty.")
        self.length, self.batch_size, self.seed, self.rank, self.world = length, batch_size, seed, rank, world
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, number: int) -> Tensor:
        """``int64 (batch_size,)``: batch ``number`` of this process. Batches run across the ends of epochs."""
        start = (number * self.world + self.rank) * self.batch_size
        found = []
        for epoch, place in (divmod(position, self.length) for position in range(start, start + self.batch_size)):
            if epoch != self._epoch:
                generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
                self._epoch, self._order = epoch, torch.randperm(self.length, generator=generator)
            found.append(self._order[place])
        return torch.stack(found)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turns the first interrupt into a flag that the loop reads between steps; the second one raises as usual."""
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
    finally:  # None stands for a handler that was not installed from Python
        signal.signal(signal.SIGINT, signal.default_int_handler if previous is None else previous)


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
    log_every: int = 50,
    checkpoint_every: int = 1000,
    preview_every: int = 1000,
    progress: bool = True,
) -> History:
    """Trains ``method`` in place until the budget is used.

    Args:
        batch_size: items per process and micro-batch; one step sees ``batch_size · accumulate · processes``.
        folder: where checkpoints and TensorBoard files go; None keeps nothing.
        resume: continue from the checkpoint in ``folder`` if there is one; on the same machine to the same bits.
        seed: of data order, augmentation and noise.
        accumulate: micro-batches whose gradients make one step.
        precision: as Fabric names it: ``32-true``, ``bf16-mixed``, ``16-mixed``.
        accelerator: ``cpu`` or ``cuda``.

    Raises:
        CourseError: a loss is not finite (names step and loss; the last checkpoint is kept), the checkpoint is damaged,
            of another method, or made with other settings or data, the disk is full, or a setting is impossible.
    """
    counts = (batch_size, accumulate, log_every, checkpoint_every, preview_every)
    if not all(isinstance(one, int) for one in (*counts, seed)) or min(counts[:3]) < 1 or min(counts) < 0:
        rule = "batch_size, accumulate, log_every are whole numbers from 1, other intervals from 0, the seed is whole"
        raise CourseError(f"{rule}; not {', '.join(map(repr, (*counts, seed)))}.")
    fabric = launch(accelerator, precision)
    # Layers draw their noise from the global generators, which every step seeds; the caller's state comes back.
    cuda = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        settings = {"seed": seed, "batch size": batch_size, "processes": fabric.world_size, "accumulation": accumulate}
        settings["precision"] = precision
        run = _Run(fabric, method, budget, Path(folder) if folder else None, settings)
        try:
            run.start(resume)
            return run.loop(log_every, checkpoint_every, preview_every, progress)
        finally:
            run.release()


class _Run:
    """State of one call of :func:`train`."""

    def __init__(self, fabric: "Fabric", method: Method, budget: Budget, folder: Path | None, settings: dict[str, Any]):
        self.fabric, self.method, self.budget, self.folder = fabric, method, budget, folder
        self.settings, self.history, self.originals = settings_of(method) | settings, History(), dict(method.modules)
        self.seed, self.accumulate = settings["seed"], settings["accumulation"]
        place = fabric.global_rank, fabric.world_size
        self.indices = ShuffledIndices(method.length, settings["batch size"], self.seed, *place)
        self.base_rates = {n: [g["lr"] for g in one.param_groups] for n, one in method.optimizers.items()}
        # Values of each number since the last point of the curve, and those that wait on the device to be read.
        self.sums: dict[str, list[float]] = {}
        self.pending: list[tuple[int, dict[str, Tensor | float]]] = []
        self.snapshot: Snapshot | None = None

    def start(self, resume: bool) -> None:
        """Hands the networks to Fabric and, if asked, loads where an earlier run stopped."""
        method, fabric = self.method, self.fabric
        data = data_of(method) if self.folder is not None else {}
        method.to_device(fabric.device)
        method.plain, method.autocast = self.originals, fabric.autocast
        # Under DDP this also gives every process the weights of the first.
        method.modules = {name: _Prepared(fabric, module.train()) for name, module in self.originals.items()}
        self.optimizers = {name: fabric.setup_optimizers(one) for name, one in method.optimizers.items()}
        averaging = {name: get_ema_multi_avg_fn(decay) for name, decay in method.ema.items()}
        self.averages = {n: AveragedModel(self.originals[n], multi_avg_fn=fn) for n, fn in averaging.items()}
        if self.folder is None:
            return
        networks = {f"module/{name}": module for name, module in self.originals.items()}
        networks |= {f"ema/{name}": average for name, average in self.averages.items()}
        precision = fabric.strategy.precision
        self.snapshot = Snapshot(self.folder, networks, method.optimizers, precision, self.settings, data)
        if fabric.is_global_zero:  # of processes that were killed while they saved
            for part in self.folder.glob(f".{self.snapshot.path.name}.*.part"):
                part.unlink(missing_ok=True)
        if resume and self.snapshot.path.is_file():
            self.sums = self.snapshot.restore(self.history)

    def release(self) -> None:
        """Gives the method its own networks and learning rates back."""
        self.method.modules, self.method.plain, self.method.autocast = dict(self.originals), {}, nullcontext
        self._set_rates(1.0)

    def _set_rates(self, factor: float) -> None:
        for name, optimizer in self.method.optimizers.items():
            for group, rate in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = rate * factor

    def _read(self) -> None:
        """Reads the numbers that are pending; a CourseError names one that is not finite, and the step."""
        for step, scalars in self.pending:
            for name, value in scalars.items():
                number = float(value.detach()) if isinstance(value, Tensor) else float(value)
                if not math.isfinite(number):
                    raise CourseError(f"{name} became {number} at step {step}: lower the learning rate.")
                self.sums.setdefault(name, []).append(number)
        self.pending.clear()

    def _generator(self, *parts: int) -> torch.Generator:
        """Seeds the global generators (dropout) and returns one, from seed, rank, and step, micro-batch and phase."""
        mixed = self.seed
        for part in (parts[0], self.fabric.global_rank, *parts[1:]):
            mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**63
        if self.fabric.device.type == "cpu":
            # What torch.manual_seed does besides, noting this call for GPUs, is a fifth of a small network's step.
            torch.default_generator.manual_seed(mixed)
        else:
            torch.manual_seed(mixed)
        return torch.Generator().manual_seed(mixed)

    def _step(self, step: int) -> None:
        method = self.method
        self._set_rates(method.learning_rate(self.budget.progress(step, self.history.seconds)))
        batches = []
        for micro in range(self.accumulate):
            generator = self._generator(step, micro, 0)
            batch = method.batch(self.indices(step * self.accumulate + micro), generator)
            batches.append((iter(method.losses(batch, generator, step)), generator))
        phase = 1
        while self._phase(step, phase, batches):
            phase += 1
        for name, average in self.averages.items():
            average.update_parameters(self.originals[name])

    def _phase(self, step: int, phase: int, batches: list[tuple[Iterator[Loss], torch.Generator]]) -> bool:
        """One optimiser phase over all micro-batches; False when the method has no further phase."""
        # DDP sums up while the last micro-batch goes back. A pass that one phase begins and a later one ends comes too
        # late for that, so gradients of several micro-batches are averaged here.
        shared = self.fabric.world_size > 1 and self.accumulate > 1
        optimizers: list[torch.optim.Optimizer] = []
        for micro, (losses, generator) in enumerate(batches):
            generator.manual_seed(self._generator(step, micro, phase).initial_seed())
            with ExitStack() as stack:
                for module in self.method.modules.values() if shared else ():
                    stack.enter_context(module.without_sync())
                loss: Loss | None = next(losses, None)
                if loss is None:
                    return False
                if not micro:
                    optimizers = [self.optimizers[name] for name in (loss.optimizer, *loss.also)]
                    for optimizer in optimizers:
                        optimizer.zero_grad(set_to_none=True)
                self.fabric.backward(loss.value / self.accumulate)
            self.pending.append((step, {f"loss/{loss.optimizer}": loss.value, **loss.scalars}))
            if self.fabric.device.type == "cpu":  # on a GPU reading waits for the device: left until it logs or saves
                self._read()
        if shared:
            groups = [group for optimizer in optimizers for group in optimizer.param_groups]
            gradients = [p.grad for group in groups for p in group["params"] if p.grad is not None]
            flat = self.fabric.all_reduce(torch.cat([one.flatten() for one in gradients]), reduce_op="mean")
            for gradient, part in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))
        for optimizer in optimizers:
            optimizer.step()
        return True

    def save(self) -> None:
        """Checks the weights, which a finite loss can leave not finite, and writes the state, on process zero."""
        self._read()
        for name, module in self.originals.items():
            if not all(parameter.isfinite().all() for parameter in module.parameters()):
                when = f"no longer finite after step {self.history.steps}"
                raise CourseError(f"the weights of {name} are {when}: lower the learning rate.")
        if self.snapshot is not None:
            if self.fabric.is_global_zero:
                self.snapshot.save(self.history, self.sums)
            self.fabric.barrier()

    def loop(self, log_every: int, checkpoint_every: int, preview_every: int, progress: bool) -> History:
        """Steps until the budget is used or the user interrupts."""
        step, history, zero = self.history.steps, self.history, self.fabric.is_global_zero
        board = self._board(step + 1) if self.folder and zero else None
        bar = progress_bar(progress and zero, total=self.budget.steps, initial=step, unit="step")
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
                    if board and preview_every and step % preview_every == 0:
                        self._show_preview(step, board)
                    if checkpoint_every and step % checkpoint_every == 0:
                        self.save()
                if self.sums or self.pending:
                    self._log(step, board, bar)
                self.save()
            if interrupted.is_set():
                where = f"; continue with resume=True from {self.folder}" if self.folder else ""
                print(f"Stopped after step {step}{where}.")
        except CourseError as error:
            if self.snapshot is None or not self.snapshot.path.is_file():
                raise
            raise CourseError(f"{error} The last checkpoint is in {self.folder}.") from error
        finally:
            bar.close()
            if board:
                board.close()
        history.averaged = {name: average.module for name, average in self.averages.items()}
        return history

    def _board(self, step: int) -> "SummaryWriter":
        """TensorBoard; points that an interrupted run logged from ``step`` on are hidden."""
        from torch.utils.tensorboard import SummaryWriter

        try:
            return SummaryWriter(str(self.folder), purge_step=step)
        except OSError as error:
            raise CourseError(f"the curves could not be written ({explain(error)}).") from error

    def _finished(self, step: int, interrupted: threading.Event) -> bool:
        stop = interrupted.is_set() or self.budget.progress(step, self.history.seconds) >= 1.0
        if self.fabric.world_size > 1:
            # Clocks differ between processes; all follow the first, also in their learning rates.
            stop, self.history.seconds = self.fabric.broadcast((stop, self.history.seconds))
        return stop

    def _log(self, step: int, board: "SummaryWriter | None", bar: Any) -> None:
        self._read()
        means = {name: sum(values) / len(values) for name, values in self.sums.items()}
        self.sums = {}
        for name, value in {"step": step, **means}.items():
            self.history.curve.setdefault(name, []).append(value)
        for name, value in means.items() if board else ():
            board.add_scalar(name, value, step)
        bar.set_postfix({name.split("/")[-1]: f"{value:.3g}" for name, value in list(means.items())[:3]})

    def _show_preview(self, step: int, board: "SummaryWriter") -> None:
        from torchvision.utils import make_grid

        if (pictures := self.method.preview()) is not None:
            board.add_image("preview", make_grid(pictures.clamp(-1, 1).cpu() / 2 + 0.5, nrow=8), step)
