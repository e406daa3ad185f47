"""What goes into a run and what it leaves: method, budget, losses; history, weights, each with a JSON card that says
where it comes from, and the state of a run, which resumes only with its own settings and data. Files are written so
that a crash at any instant leaves whole ones behind."""

import hashlib
import json
import math
import os
import platform
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor, nn

from ..errors import CourseError, explain
from ..profiles import CHECKPOINTS


@dataclass(frozen=True)
class Budget:
    """When to stop: after ``steps``, or after ``seconds`` of training (earlier runs of a resumed training included)."""

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        given = {int: self.steps, Real: self.seconds}
        right = [isinstance(x, kind) and 0 <= x < math.inf for kind, x in given.items() if x is not None]
        if not right or not all(right):
            raise CourseError(f"a training budget is a whole number of steps, a finite time, or both: not {self}.")

    def progress(self, step: int, seconds: float) -> float:
        """Share used, in [0, 1]; an empty budget is used up from the start."""
        pairs = ((step, self.steps), (seconds, self.seconds))
        return min(1.0, max(used / limit if limit else 1.0 for used, limit in pairs if limit is not None))


@dataclass
class History:
    """What a run leaves: steps done, seconds of training, logged means, and the averaged modules if any."""

    steps: int = 0
    seconds: float = 0.0
    curve: dict[str, list[float]] = field(default_factory=dict)
    averaged: dict[str, nn.Module] = field(default_factory=dict)


@dataclass
class Loss:
    """One phase of a step: minimise ``value`` with the optimiser called ``optimizer``."""

    optimizer: str
    value: Tensor
    scalars: dict[str, Tensor | float] = field(default_factory=dict)  # more numbers for the curve
    also: tuple[str, ...] = ()  # further optimisers that step on the same gradients


class Method:
    """Base class of everything that :func:`course_lib.training.train` trains. While it runs, the loop replaces
    ``modules`` by wrapped ones (precision, DDP): call ``self.modules[name](…)``."""

    modules: dict[str, nn.Module]  # the networks that change
    optimizers: dict[str, torch.optim.Optimizer]  # their parameters belong to ``modules``
    ema: dict[str, float]  # name of a module → decay of its exponential moving average
    length: int  # number of training items
    moved: tuple[str, ...] = ()  # attributes that go to the device, too: tensors, image sets, lists of these
    device: torch.device = torch.device("cpu")  # where batch() must put its tensors; the loop sets it
    autocast: Callable[[], AbstractContextManager] = nullcontext  # the run's precision, for unwrapped networks

    def __init__(self) -> None:
        self.modules, self.optimizers, self.ema, self.length = {}, {}, {}, 0
        self.plain: dict[str, nn.Module] = {}

    def to_device(self, device: torch.device) -> None:
        """Moves what the method reads but does not train: what :attr:`moved` names; frozen experts by overriding."""
        self.device = device
        for name in self.moved:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, [x.to(device) for x in value] if isinstance(value, list) else value.to(device))

    def batch(self, index: Tensor, generator: torch.Generator) -> Any:
        """The training items ``index: (B,)`` as tensors on ``self.device``; augmentation draws from ``generator`` (CPU)
        alone, or a resumed run sees other pictures."""
        raise TypeError(f"{type(self).__name__} must define batch()")

    def losses(self, batch: Any, generator: torch.Generator, step: int) -> Iterator[Loss]:
        """Yields one :class:`Loss` per optimiser phase; the loop steps that optimiser before it asks for the next, so a
        critic's phase sees the generator that has just been updated."""
        raise TypeError(f"{type(self).__name__} must define losses()")

    def learning_rate(self, progress: float) -> float:
        """Factor on every learning rate at ``progress`` in [0, 1] of the budget; constant unless overridden."""
        return 1.0

    def preview(self) -> Tensor | None:
        """Pictures ``(N, 3, S, S)`` in [−1, 1] that show how far training is, or None."""
        return None

    def unwrapped(self, name: str) -> nn.Module:
        """Module ``name`` without the DDP wrapper, for passes whose parameter gradients are not wanted."""
        return self.plain.get(name, self.modules[name])


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through ``module`` but not into its parameters: saves their computation."""
    flags = [parameter.requires_grad for parameter in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in zip(module.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)


def atomic_write(path: Path, write: Callable[[Path], Any], *more: tuple[Path, Callable[[Path], Any]]) -> None:
    """Calls ``write(temporary)`` beside ``path``, flushes to disk, then renames: readers never see half a file. What
    belongs to it (``more``) is written after it, and all is on the disk before the first is renamed. A CourseError says
    that the disk is full or not writable; the old files are untouched then and no part is left."""
    files = [(path, write), *more]
    parts = [path.with_name(f".{path.name}.{os.getpid()}.part") for path, _ in files]
    try:
        for (path, write), part in zip(files, parts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(part)
            # safetensors makes files that only their owner may read.
            part.chmod(0o644)
            with part.open("rb") as file:
                os.fsync(file.fileno())  # a full disk may say so only here
        for (path, _), part in zip(files, parts, strict=True):
            os.replace(part, path)
            with suppress(OSError):  # the rename survives a power cut, on systems that can flush a folder
                descriptor = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
    except (OSError, SafetensorError) as error:
        reason = explain(error) if isinstance(error, OSError) else str(error)
        raise CourseError(f"{path.name} could not be written; nothing was overwritten ({reason}).") from error
    finally:
        for part in parts:
            with suppress(OSError):
                part.unlink(missing_ok=True)


# --- weights and cards ------------------------------------------------------------------------------------------------


_VERSIONS = {"torch": torch.__version__, "python": platform.python_version()}


@dataclass
class Card:
    """What a checkpoint is, how it was made and how good it is."""

    name: str  # of its file, without suffix
    kind: str  # which class reads it, for example ``classifier``
    config: dict[str, Any]  # constructor arguments of that class
    recipe: dict[str, Any] = field(default_factory=dict)  # arguments of the training run
    steps: int = 0
    seconds: float = 0.0
    device: str = "cpu"
    seed: int = 0
    data: dict[str, str] = field(default_factory=dict)  # name of the set and hash of its files
    metrics: dict[str, float] = field(default_factory=dict)  # on held-out data; names say on which part
    curve: dict[str, list[float]] = field(default_factory=dict)  # what was logged
    versions: dict[str, str] = field(default_factory=lambda: dict(_VERSIONS))
    sha256: str = ""  # of the weight file
    notes: str = ""


def _paths(name: str, folder: Path) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"


_SCALE = "//scale"  # what is added to a tensor's name for the scales of its rows, where it is stored in 8 bits


def _stored(tensors: dict[str, Tensor], bits: int, fine: tuple[str, ...]) -> dict[str, Tensor]:
    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    for name, tensor in list(stored.items()):
        if not tensor.is_floating_point() or bits == 32 or not tensor.numel():
            continue
        if bits == 8 and tensor.ndim > 1 and tensor.numel() >= 512 and not name.endswith(fine):
            scale = tensor.float().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
            rows = tensor.float() / scale.view(-1, *[1] * (tensor.ndim - 1))
            stored |= {name: rows.round().to(torch.int8), name + _SCALE: scale}
        elif float(tensor.abs().amax()) < 6e4:  # half precision ends at 65,504; a value outside would load as infinity
            stored[name] = tensor.half()
    return stored


def _loaded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    loaded = {name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()}
    for name in [name for name in tensors if name.endswith(_SCALE)]:
        scale, rows = loaded.pop(name), loaded[name.removesuffix(_SCALE)]
        loaded[name.removesuffix(_SCALE)] = rows.float() * scale.view(-1, *[1] * (rows.ndim - 1))
    return loaded


def as_stored(tensors: dict[str, Tensor], bits: int = 16, fine: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """A state dict rounded as :func:`save_weights` and :func:`load_weights` together round it."""
    return _loaded(_stored(tensors, bits, fine))


def save_weights(
    tensors: dict[str, Tensor], card: Card, folder: Path = CHECKPOINTS, bits: int = 16, fine: tuple[str, ...] = ()
) -> Path:
    """Writes a state dict and its card, into which the file's hash goes. Of floating-point tensors 16 ``bits`` are half
    precision, 32 keep all; 8 keep large matrices and kernels as whole numbers with one scale a row, about 0.4 % of the
    row's largest value, but give 16 to tensors whose names end in one of ``fine``."""
    path, card_path = _paths(card.name, folder)

    def write_weights(part: Path) -> None:
        save_file(_stored(tensors, bits, fine), part)
        card.sha256 = hashlib.sha256(part.read_bytes()).hexdigest()

    def write_card(part: Path) -> None:
        part.write_text(json.dumps(asdict(card), indent=1) + "\n")

    atomic_write(path, write_weights, (card_path, write_card))
    return path


def load_card(name: str, folder: Path = CHECKPOINTS) -> Card:
    """The card of a shipped checkpoint; a CourseError where there is none of that name, or it is damaged."""
    weights, path = _paths(name, folder)
    if weights.is_file() and not path.is_file():
        raise CourseError(f"{weights} is there and its card {path.name} is missing: put the one written with it there.")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors") if p.with_suffix(".json").is_file()))
        advice = f"train it with `make train NAME={name}`" if folder == CHECKPOINTS else "check the name and the folder"
        raise CourseError(f"there is no checkpoint {name!r} in {folder} (there: {known or 'none'}): {advice}.")
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CourseError(f"the card {path.name} is damaged ({error}): {_restore(folder)}.") from error


def _restore(folder: Path) -> str:
    again = f"copy it into {folder} again, or train it again"
    return "restore it with `git checkout checkpoints`" if folder == CHECKPOINTS else again


def folder_of(name: str, folder: Path) -> Path:
    """``folder`` if the checkpoint lies there, else that of the shipped ones, at which a run of your own starts."""
    return folder if _paths(name, folder)[1].is_file() else CHECKPOINTS


def load_weights(name: str, folder: Path = CHECKPOINTS) -> tuple[dict[str, Tensor], Card]:
    """Weights as ``float32`` and their card; a CourseError for a missing, truncated or changed file."""
    card = load_card(name, folder)
    path, _ = _paths(name, folder)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != card.sha256:
            raise CourseError(f"{path.name} is truncated or not the file its card describes: {_restore(folder)}.")
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        reason = "it is missing" if isinstance(error, FileNotFoundError) else error
        raise CourseError(f"{path.name} cannot be read ({reason}): {_restore(folder)}.") from error
    return _loaded(tensors), card


def write_state(path: Path, tensors: dict[str, Tensor], plain: dict) -> None:
    """Writes tensors and JSON-able values atomically to one safetensors file."""
    # safetensors refuses tensors that share memory, and bits survive only in contiguous copies.
    copies = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    atomic_write(path, lambda temporary: save_file(copies, temporary, metadata={"state": json.dumps(plain)}))


def read_state(path: Path) -> tuple[dict[str, Tensor], dict]:
    """Reads what :func:`write_state` wrote; a CourseError where the file is missing, truncated or of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            plain = json.loads((file.metadata() or {})["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, plain  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CourseError(f"there is no checkpoint {path}: start without resume=True.") from error
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as error:
        advice = "delete it to start again, or restore it"
        raise CourseError(f"{path.name} is truncated or no training checkpoint ({error}): {advice}.") from error


# --- what a resumed run must share with its beginning -----------------------------------------------------------------


def settings_of(method: Method) -> dict[str, Any]:
    """Settings of a method as JSON values, under the names that a message uses."""
    # What an optimiser's groups hold that does not change what it computes, or stands elsewhere.
    free = {"params", "lr", "fused", "foreach", "capturable", "differentiable"}
    found: dict[str, Any] = {"number of items": method.length}
    found |= {f"averaging of {name}": decay for name, decay in method.ema.items()}
    # From the end, so that a method that remembers how far it is remembers the beginning.
    found["learning-rate schedule"] = [round(method.learning_rate(k / 4), 6) for k in (4, 3, 2, 1, 0)]
    for name, optimizer in method.optimizers.items():
        groups = [{key: value for key, value in one.items() if key not in free} for one in optimizer.param_groups]
        found[f"learning rate of {name}"] = [float(one["lr"]) for one in optimizer.param_groups]
        found[f"optimiser of {name}"] = [type(optimizer).__name__, groups]
    for name, value in vars(method).items():
        # What stands in a frozen dataclass does not change while the method trains; other attributes may.
        if is_dataclass(value) and type(value).__dataclass_params__.frozen and not hasattr(value, "content_hash"):
            plain = {one.name: getattr(value, one.name) for one in fields(value)}
            found |= {f"{name}.{key}": one for key, one in plain.items() if isinstance(one, (bool, int, float, str))}
    return json.loads(json.dumps(found, default=str))


def data_of(method: Method) -> dict[str, list]:
    """What a method trains on, in a few numbers each: tensors with one row for each item, and image sets. Whole numbers
    count bit for bit. Floats may come from a network, whose last digits differ between machines: of them the mean, the
    mean size and a mean that tells rows apart are compared with a tolerance."""
    found: dict[str, list] = {}

    def visit(name: str, value: Any, depth: int) -> None:
        members: Any = ()
        if isinstance(value, Tensor):
            if value.ndim and len(value) == method.length:
                found[name] = _digest(value)
        elif hasattr(value, "content_hash"):
            found[name] = [value.content_hash()]
        elif is_dataclass(value) and not isinstance(value, type):
            members = [(one.name, getattr(value, one.name)) for one in fields(value)]
        elif isinstance(value, dict):
            members = value.items()
        elif isinstance(value, list | tuple) and len(value) <= 64:
            members = enumerate(value)
        for key, one in members if depth < 3 else ():
            visit(f"{name}.{key}", one, depth + 1)

    for name, value in vars(method).items():
        if name not in ("modules", "optimizers", "plain", "ema"):
            visit(name, value, 0)
    return found


def _digest(rows: Tensor) -> list:
    rows = rows.detach().reshape(len(rows), -1)
    if not rows.is_floating_point():
        return [list(rows.shape), zlib.crc32(rows.cpu().contiguous().view(torch.uint8).numpy())]
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
    return str(value).strip("[]")[:60]


def _differences(plain: dict[str, Any], settings: dict[str, Any], data: dict[str, list]) -> list[str]:
    """What a resumed run would change, in words; a file of an older course says nothing of it."""
    old, known = plain.get("settings", {"seed": plain["seed"]}), plain.get("data", data)
    changed = {name: (value, settings.get(name)) for name, value in old.items() if value != settings.get(name)}
    found = [f"{name} {_shown(a)}, not {_shown(b)}" for name, (a, b) in changed.items()]
    if set(known) != set(data) or not all(_same_data(known[name], data[name]) for name in data):
        found.append("other data")
    return found


@dataclass
class Snapshot:
    """The state file of one run: weights, averages, optimisers, loss scale, the learning curve, and how it was made.
    Random numbers and data order are functions of seed and step, so there is nothing of theirs to keep."""

    folder: Path
    networks: dict[str, nn.Module]  # ``module/NAME``: trained networks, ``ema/NAME``: their moving averages
    optimizers: dict[str, torch.optim.Optimizer]
    precision: Any  # Fabric's plugin; under ``16-mixed`` it carries the loss scale
    settings: dict[str, Any]  # see :func:`settings_of`; a run resumes only with its own
    data: dict[str, list]  # and so for :func:`data_of`

    @property
    def path(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self, history: History, sums: dict[str, list[float]]) -> None:
        """Writes the state after ``history.steps`` steps; ``sums`` are values since the last point of the curve."""
        parts = {place: network.state_dict() for place, network in self.networks.items()}
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        for name, state in optimizers.items():
            parts |= {f"optimizer/{name}/{index}": slots for index, slots in state.pop("state").items()}
        plain = {"step": history.steps, "seconds": history.seconds, "curve": history.curve, "sums": sums}
        plain |= {"seed": self.settings["seed"], "settings": self.settings, "data": self.data}
        plain |= {"precision": self.precision.state_dict(), "optimizers": optimizers}
        tensors = {f"{place}/{key}": value for place, part in parts.items() for key, value in part.items()}
        write_state(self.path, tensors, plain)

    def restore(self, history: History) -> dict[str, list[float]]:
        """Loads the state into networks, optimisers and ``history``; returns the ``sums`` of :meth:`save`. A
        CourseError where the file is damaged, or of other settings, data, method or size."""
        tensors, plain = read_state(self.path)
        parts: dict[str, dict[str, Tensor]] = {}
        try:
            for key, value in tensors.items():
                kind, name, inside = key.split("/", 2)
                parts.setdefault(f"{kind}/{name}", {})[inside] = value
            # What the state lacks is found when it is loaded.
            if unknown := set(parts) - set(self.networks) - {f"optimizer/{name}" for name in self.optimizers}:
                raise ValueError(f"it holds {', '.join(sorted(unknown)).replace('/', ' ')}")
            if different := _differences(plain, self.settings, self.data):
                made = f"the run in {self.folder} was made with {'; '.join(different)}"
                raise CourseError(f"{made}: resume it with what it was made with, or start in another folder.")
            for place, network in self.networks.items():
                network.load_state_dict(parts.get(place, {}))
            for name, optimizer in self.optimizers.items():
                state: dict[int, dict[str, Tensor]] = {}
                for key, value in parts.get(f"optimizer/{name}", {}).items():
                    index, slot = key.split("/")
                    state.setdefault(int(index), {})[slot] = value
                groups = plain["optimizers"][name]["param_groups"]
                optimizer.load_state_dict({"state": state, "param_groups": groups})
                _match_layout(optimizer)
            self.precision.load_state_dict(plain.get("precision", {}))
            history.steps, history.seconds, history.curve = plain["step"], plain["seconds"], plain["curve"]
            return plain.get("sums", {})
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            reason = f"of another method or size ({str(error).splitlines()[0]})"
            raise CourseError(f"the checkpoint in {self.folder} is {reason}: start in another folder.") from error


def _match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Gives every per-parameter tensor the strides of its parameter. Files hold contiguous tensors, and fused
    optimisers walk over parameter and moments by address: with channels-last parameters they would pair the wrong
    elements, and read past the end of moments that are too small, without a word."""
    for parameter, slots in optimizer.state.items():
        for slot, value in slots.items():
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(f"{slot} has {tuple(value.shape)} numbers for {tuple(parameter.shape)} weights")
            if value.ndim:
                slots[slot] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
