"""Shipped weights: a ``.safetensors`` file and, beside it, a JSON card that says where it comes from."""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ..errors import CourseError
from ..paths import CHECKPOINTS
from .checkpoints import write_together

__all__ = ["Card", "folder_of", "load_card", "load_weights", "save_weights"]


@dataclass
class Card:
    """What a checkpoint is, how it was made and how good it is.

    Attributes:
        name: file name without suffix.
        kind: which class reads it, for example ``autoencoder``.
        config: constructor arguments of that class.
        recipe: arguments of the recipe that trained it.
        steps, seconds, device, seed: of the training run.
        data: data set name and hash of its files.
        metrics: measured on held-out data; every name says on which part and with which features.
        curve: step → logged values, so that a quick run can draw the whole learning curve beside its own.
        versions: libraries.
        sha256: of the weight file.
        notes: anything a user must know.
    """

    name: str
    kind: str
    config: dict[str, Any]
    recipe: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    device: str = "cpu"
    seed: int = 0
    data: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    curve: dict[str, list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(
        default_factory=lambda: {"torch": torch.__version__, "python": platform.python_version()}
    )
    sha256: str = ""
    notes: str = ""


def _paths(name: str, folder: Path) -> tuple[Path, Path]:
    return folder / f"{name}.safetensors", folder / f"{name}.json"


_SCALE = "//scale"
"""What is added to a tensor's name for the scales of its rows, where it is stored in 8 bits."""


def _stored(name: str, tensor: Tensor, bits: int, fine: tuple[str, ...] = ()) -> dict[str, Tensor]:
    tensor = tensor.detach().cpu().contiguous().clone()
    if not tensor.is_floating_point() or bits == 32 or not tensor.numel():
        return {name: tensor}
    if bits == 8 and tensor.ndim > 1 and tensor.numel() >= 512 and not name.endswith(fine):
        scale = tensor.float().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        rows = tensor.float() / scale.view(-1, *[1] * (tensor.ndim - 1))
        return {name: rows.round().to(torch.int8), name + _SCALE: scale}
    # Half precision ends at 65,504; a value outside would load as infinity.
    return {name: tensor.half() if float(tensor.abs().amax()) < 6e4 else tensor}


def _loaded(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    scales = {name.removesuffix(_SCALE): t for name, t in tensors.items() if name.endswith(_SCALE)}
    loaded = {}
    for name, tensor in tensors.items():
        if name in scales:
            loaded[name] = tensor.float() * scales[name].view(-1, *[1] * (tensor.ndim - 1))
        elif not name.endswith(_SCALE):
            loaded[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return loaded


def save_weights(
    tensors: dict[str, Tensor], card: Card, folder: Path = CHECKPOINTS, bits: int = 16, fine: tuple[str, ...] = ()
) -> Path:
    """Writes weights and card.

    Args:
        tensors: the state dict.
        card: its description; the file's hash is written into it.
        folder: where to.
        bits: how floating-point tensors are stored. 16 is half precision. 8 keeps large matrices and kernels as whole
            numbers with one scale a row, about 0.4 % of the row's largest value: nothing that a deep network shows.
            32 keeps all.
        fine: endings of the names of tensors for which 8 bits are too coarse: they get 16.

    Raises:
        CourseError: the disk is full; an older checkpoint of that name is kept.
    """
    path, card_path = _paths(card.name, folder)
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stored |= _stored(name, tensor, bits, fine)

    def write_weights(part: Path) -> None:
        save_file(stored, part)
        card.sha256 = hashlib.sha256(part.read_bytes()).hexdigest()

    def write_card(part: Path) -> None:
        part.write_text(json.dumps(asdict(card), indent=1) + "\n")

    write_together([(path, write_weights), (card_path, write_card)])
    return path


def load_card(name: str, folder: Path = CHECKPOINTS) -> Card:
    """The card of a shipped checkpoint.

    Raises:
        CourseError: there is none of that name, or it is damaged.
    """
    weights, path = _paths(name, folder)
    if not path.is_file():
        if weights.is_file():
            raise CourseError(
                f"{weights} is there and its card {path.name} is missing: put the card that was written with it beside."
            )
        known = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors") if p.with_suffix(".json").is_file()))
        where = f"there is no checkpoint {name!r} in {folder} (there: {known or 'none'})"
        train = f"train it with `make train NAME={name}`"
        raise CourseError(f"{where}: {train if folder == CHECKPOINTS else 'check the name and the folder'}.")
    try:
        return Card(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CourseError(f"the card {path.name} is damaged ({error}): {_restore(folder)}.") from error


def _restore(folder: Path) -> str:
    """What to do about a damaged file."""
    if folder == CHECKPOINTS:
        return "restore it with `git checkout checkpoints`"
    return f"copy it into {folder} again, or train it again"


def folder_of(name: str, folder: Path) -> Path:
    """``folder`` if the checkpoint lies there, else that of the shipped ones.

    What a checkpoint was made from need not lie beside it: a run of your own starts at a shipped generator.
    """
    return folder if _paths(name, folder)[1].is_file() else CHECKPOINTS


def load_weights(name: str, folder: Path = CHECKPOINTS) -> tuple[dict[str, Tensor], Card]:
    """Weights as ``float32`` and their card, after a check of the recorded SHA-256.

    Raises:
        CourseError: missing, truncated or changed file.
    """
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
