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

__all__ = ["Card", "load_card", "load_weights", "save_weights"]


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


def save_weights(tensors: dict[str, Tensor], card: Card, folder: Path = CHECKPOINTS, half: bool = True) -> Path:
    """Writes weights and card. Floating-point tensors are stored in half precision unless ``half`` is False.

    Raises:
        CourseError: the disk is full; an older checkpoint of that name is kept.
    """
    path, card_path = _paths(card.name, folder)
    # Half precision ends at 65,504; a value outside would load as infinity.
    fits = {
        n: t.is_floating_point() and half and float(t.abs().amax() if t.numel() else 0) < 6e4
        for n, t in tensors.items()
    }
    stored = {
        n: (t.detach().cpu().half() if fits[n] else t.detach().cpu()).contiguous().clone() for n, t in tensors.items()
    }

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
    _, path = _paths(name, folder)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.safetensors"))) or "none yet"
        raise CourseError(
            f"there is no checkpoint {name!r} in {folder.name}/ (there: {known}): train it with "
            f"`make train NAME={name}`."
        )
    try:
        return Card(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CourseError(
            f"the card {path.name} is damaged ({error}): restore it with `git checkout checkpoints`."
        ) from error


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
            raise CourseError(
                f"{path.name} is truncated or not the file its card describes: restore it with "
                f"`git checkout checkpoints` or train it again with `make train NAME={name}`."
            )
        tensors = load(content)
    except (OSError, SafetensorError) as error:
        raise CourseError(
            f"{path.name} cannot be read ({error}): restore it with `git checkout checkpoints`."
        ) from error
    return {n: t.float() if t.dtype == torch.float16 else t for n, t in tensors.items()}, card
