"""All that a resumed run needs, kept in one file: weights, averages, optimisers, loss scale and the learning curve."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError
from .budget import History
from .checkpoints import flatten_optimizer, load_state, save_state, unflatten_optimizer

__all__ = ["Snapshot"]


class Snapshot:
    """The state file of one run.

    Random numbers and data order are functions of seed and step, so there is nothing of theirs to keep.

    Args:
        folder: of the run.
        modules: the trained networks by name.
        averages: their exponential moving averages by name.
        optimizers: by name.
        precision: Fabric's precision plugin; under ``16-mixed`` it carries the loss scale.
        seed: of the run; a run resumes only with its own.
    """

    file_name = "state.safetensors"

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        averages: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        precision: Any,
        seed: int,
    ):
        self.folder, self.path = folder, folder / self.file_name
        self.kinds = {"module": modules, "ema": averages}
        self.optimizers, self.precision, self.seed = optimizers, precision, seed

    def exists(self) -> bool:
        """Whether there is a state to continue from."""
        return self.path.is_file()

    def discard_parts(self) -> None:
        """Removes the half-written files of processes that were killed while they saved."""
        for part in self.folder.glob(f".{self.file_name}.*.part"):
            part.unlink(missing_ok=True)

    def save(self, history: History, sums: dict[str, list[float]]) -> None:
        """Writes the state after ``history.steps`` steps atomically.

        Args:
            history: steps, seconds and curve so far.
            sums: values seen since the last point of the curve.

        Raises:
            CourseError: the disk is full; the state before is kept.
        """
        tensors: dict[str, Tensor] = {}
        for kind, modules in self.kinds.items():
            for name, module in modules.items():
                tensors |= {f"{kind}/{name}/{key}": value for key, value in module.state_dict().items()}
        plain: dict[str, Any] = {
            "step": history.steps,
            "seconds": history.seconds,
            "curve": history.curve,
            "sums": sums,
            "seed": self.seed,
            "precision": self.precision.state_dict(),
            "optimizers": {},
        }
        for name, optimizer in self.optimizers.items():
            flat, plain["optimizers"][name] = flatten_optimizer(optimizer.state_dict())
            tensors |= {f"optimizer/{name}/{key}": value for key, value in flat.items()}
        save_state(self.path, tensors, plain)

    def restore(self, history: History) -> dict[str, list[float]]:
        """Loads the state into modules, averages, optimisers and ``history``; returns the ``sums`` of :meth:`save`.

        Raises:
            CourseError: the file is damaged, of another seed, or of another method or size.
        """
        tensors, plain = load_state(self.path)
        try:
            if plain["seed"] != self.seed:
                raise CourseError(
                    f"the checkpoint in {self.folder} was made with seed {plain['seed']}: resume with that seed, or "
                    "start in another folder."
                )
            self._check_names(tensors, plain)
            for kind, modules in self.kinds.items():
                for name, module in modules.items():
                    module.load_state_dict(_part(tensors, f"{kind}/{name}/"))
            for name, optimizer in self.optimizers.items():
                state = unflatten_optimizer(_part(tensors, f"optimizer/{name}/"), plain["optimizers"][name])
                optimizer.load_state_dict(state)
                _match_layout(optimizer)
            self.precision.load_state_dict(plain.get("precision", {}))
            history.steps, history.seconds, history.curve = plain["step"], plain["seconds"], plain["curve"]
            return plain.get("sums", {})
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            first = str(error).splitlines()[0]
            raise CourseError(
                f"the checkpoint in {self.folder} is of another method or size ({first}): start in another folder."
            ) from error

    def _check_names(self, tensors: dict[str, Tensor], plain: dict) -> None:
        """Refuses a state that holds more than this run has; what it lacks is found when it is loaded."""
        for kind, known in (*self.kinds.items(), ("optimizer", self.optimizers)):
            found = {key.split("/")[1] for key in tensors if key.startswith(f"{kind}/")}
            if unknown := sorted(found - set(known)):
                raise ValueError(f"it holds {kind} {', '.join(unknown)}")


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives every per-parameter tensor the strides of its parameter.

    Files hold contiguous tensors. Fused optimisers walk over parameter, gradient and moments by address, so with
    channels-last parameters and contiguous moments they would pair the wrong elements, without a word.
    """
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            same_shape = isinstance(value, Tensor) and value.shape == parameter.shape
            if same_shape and value.stride() != parameter.stride():
                slots[slot] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
