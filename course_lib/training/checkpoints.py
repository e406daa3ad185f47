"""Training state in one safetensors file, written so that a crash at any instant leaves a whole file behind.

A run resumes only with the settings and the data that it was started with: those stand in the file, too.
"""

import json
import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CourseError, explain
from .method import History, Method

__all__ = [
    "Snapshot",
    "atomic_write",
    "data_of",
    "flatten_optimizer",
    "load_state",
    "save_state",
    "settings_of",
    "unflatten_optimizer",
    "write_together",
]


def atomic_write(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls ``write(temporary)`` beside ``path``, flushes to disk, then renames.

    Readers see the old file or the new one, never half of one.

    Raises:
        CourseError: the disk is full or not writable; the old file is untouched and no part is left.
    """
    write_together([(path, write)])


def write_together(files: list[tuple[Path, Callable[[Path], Any]]]) -> None:
    """Like :func:`atomic_write` for files that belong together: all are on the disk before the first is renamed.

    Args:
        files: path and writer of each, in the order in which they are written.

    Raises:
        CourseError: see :func:`atomic_write`.
    """
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path, _ in files]
    name = files[0][0].name
    try:
        for (path, write), part in zip(files, parts, strict=True):
            name = path.name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(part)
            # safetensors makes files that only their owner may read.
            part.chmod(0o644)
            _flush_file(part)
        for (path, _), part in zip(files, parts, strict=True):
            os.replace(part, path)
            _flush_folder(path.parent)
    except (OSError, SafetensorError) as error:
        reason = explain(error) if isinstance(error, OSError) else str(error)
        raise CourseError(f"{name} could not be written; nothing was overwritten ({reason}).") from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _flush_file(path: Path) -> None:
    """Waits until the file's content is on the disk; a full one may say so only here."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Makes a rename survive a power cut. Some systems have no such thing for folders; the rename itself is done."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flatten_optimizer(state: dict) -> tuple[dict[str, Tensor], dict]:
    """An optimiser's ``state_dict`` as named tensors and a JSON part."""
    tensors, plain = {}, {}
    for index, slots in state["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{slot}"] = value
            else:
                plain[f"{index}/{slot}"] = value
    return tensors, {"plain": plain, "param_groups": state["param_groups"]}


def unflatten_optimizer(tensors: dict[str, Tensor], plain: dict) -> dict:
    """The inverse of :func:`flatten_optimizer`."""
    state: dict[int, dict] = {}
    for name, value in (tensors | plain["plain"]).items():
        index, slot = name.split("/", 1)
        state.setdefault(int(index), {})[slot] = value
    return {"state": state, "param_groups": plain["param_groups"]}


def save_state(path: Path, tensors: dict[str, Tensor], plain: dict) -> None:
    """Writes tensors and JSON-able values atomically to one safetensors file."""
    # safetensors refuses tensors that share memory, and bits survive only in contiguous copies.
    copies = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    atomic_write(path, lambda temporary: save_file(copies, temporary, metadata={"state": json.dumps(plain)}))


def load_state(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Reads what :func:`save_state` wrote.

    Raises:
        CourseError: the file is missing, truncated or of another kind. Nothing in it is ever executed.
    """
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, plain  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CourseError(f"there is no checkpoint {path}: start without resume=True.") from error
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        raise CourseError(
            f"{path.name} is truncated or no training checkpoint ({error}): delete it to start again, or restore it."
        ) from error


# --- what a resumed run must share with its beginning -----------------------------------------------------------------

_SPEED = {"params", "fused", "foreach", "capturable", "differentiable"}
"""What an optimiser's groups hold that does not change what it computes, or stands elsewhere."""


def settings_of(method: Method) -> dict[str, Any]:
    """Settings of a method as JSON values, under the names that a message uses."""
    found: dict[str, Any] = {"number of items": method.length}
    found |= {f"averaging of {name}": decay for name, decay in method.ema.items()}
    # From the end, so that a method that remembers how far it is remembers the beginning.
    found["learning-rate schedule"] = [round(method.learning_rate(k / 4), 6) for k in (4, 3, 2, 1, 0)]
    for name, optimizer in method.optimizers.items():
        groups = [{key: value for key, value in one.items() if key not in _SPEED} for one in optimizer.param_groups]
        found[f"learning rate of {name}"] = [float(one.pop("lr")) for one in groups]
        found[f"optimiser of {name}"] = [type(optimizer).__name__, groups]
    for name, value in vars(method).items():
        # What stands in a frozen dataclass does not change while the method trains; other attributes may.
        told = is_dataclass(value) and type(value).__dataclass_params__.frozen and not hasattr(value, "content_hash")
        if told:
            plain = {one.name: getattr(value, one.name) for one in fields(value)}
            found |= {f"{name}.{key}": one for key, one in plain.items() if isinstance(one, (bool, int, float, str))}
    return json.loads(json.dumps(found, default=str))


def data_of(method: Method) -> dict[str, list]:
    """What a method trains on, in a few numbers each: tensors with one row for each item, and image sets.

    Whole numbers count bit for bit. Floats may come from a network, whose last digits differ between machines: of them
    the mean, the mean size and a mean that tells rows apart are kept, and compared with a tolerance.
    """
    found: dict[str, list] = {}

    def visit(name: str, value: Any, depth: int) -> None:
        if isinstance(value, Tensor):
            if value.ndim and len(value) == method.length:
                found[name] = _digest(value)
        elif hasattr(value, "content_hash"):
            found[name] = [value.content_hash()]
        elif depth < 3:
            for key, one in _members(value):
                visit(f"{name}.{key}", one, depth + 1)

    for name, value in vars(method).items():
        if name not in ("modules", "optimizers", "plain", "ema"):
            visit(name, value, 0)
    return found


def _members(value: Any) -> list[tuple[Any, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        return [(one.name, getattr(value, one.name)) for one in fields(value)]
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) and len(value) <= 64 else []


def _digest(rows: Tensor) -> list:
    rows = rows.detach().flatten(1) if rows.ndim > 1 else rows.detach()[:, None]
    if not rows.is_floating_point():
        check = 0
        for part in rows.split(4096):
            check = zlib.crc32(part.cpu().contiguous().view(torch.uint8).numpy(), check)
        return [list(rows.shape), check]
    means = torch.cat([part.double().mean(1) for part in rows.split(4096)])
    size = torch.cat([part.double().abs().mean(1) for part in rows.split(4096)]).mean()
    place = torch.cos(0.7 * torch.arange(len(means), dtype=torch.float64, device=means.device))
    return [list(rows.shape), [means.mean().item(), size.item(), (means * place).mean().item()]]


def _same_data(old: list, new: list) -> bool:
    if not isinstance(old[-1], list) or not isinstance(new[-1], list):
        return old == new
    close = (abs(a - b) <= 3e-5 * max(old[1][1], 1e-12) for a, b in zip(old[1], new[1], strict=True))
    return old[0] == new[0] and all(close)


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _differences(plain: dict[str, Any], settings: dict[str, Any], data: dict[str, list]) -> list[str]:
    """What a resumed run would change, in words; a file of an older course says nothing of it."""
    old, found = plain.get("settings", {"seed": plain["seed"]}), []
    for name in old:
        now = settings.get(name)
        if old[name] != now:
            found.append(f"{name} {_shown(old[name])}, not {_shown(now)}")
    known = plain.get("data", data)
    if any(name not in data or not _same_data(known[name], data[name]) for name in known) or set(data) - set(known):
        found.append("other data")
    return found


class Snapshot:
    """The state file of one run: weights, averages, optimisers, loss scale, the learning curve, and how it was made.

    Random numbers and data order are functions of seed and step, so there is nothing of theirs to keep.

    Args:
        folder: of the run.
        modules: the trained networks by name.
        averages: their exponential moving averages by name.
        optimizers: by name.
        precision: Fabric's precision plugin; under ``16-mixed`` it carries the loss scale.
        settings: of the run, by the names that a message uses; with ``seed``. A run resumes only with its own.
        data: see :func:`data_of`; the same holds of it.
    """

    file_name = "state.safetensors"

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        averages: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        precision: Any,
        settings: dict[str, Any],
        data: dict[str, list],
    ):
        self.folder, self.path = folder, folder / self.file_name
        self.kinds = {"module": modules, "ema": averages}
        self.optimizers, self.precision, self.settings, self.data = optimizers, precision, settings, data

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
            "seed": self.settings["seed"],
            "settings": self.settings,
            "data": self.data,
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
            CourseError: the file is damaged, of other settings or data, or of another method or size.
        """
        tensors, plain = load_state(self.path)
        try:
            self._check_names(tensors, plain)
            if different := _differences(plain, self.settings, self.data):
                raise CourseError(
                    f"the run in {self.folder} was made with {'; '.join(different)}: resume it with what it was made "
                    "with, or start in another folder."
                )
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
