"""Opens the MindGAN that the authors released: a file with ``Generator`` and ``Critic``."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..experts import freeze
from ..released import pick_part, read_parts
from ..released.strict import load_exactly, reading_sizes
from .networks import MindConfig, MindCritic, MindGenerator

__all__ = ["load_released"]


def _widths(state: Mapping[str, Tensor]) -> list[int]:
    with reading_sizes("a MindGAN"):
        weights = [state[f"model.{2 * k}.weight"] for k in range(len(state) // 2)]
        return [weights[0].shape[1], *(len(weight) for weight in weights)]


def load_released(path: str | Path) -> tuple[MindGenerator, MindCritic]:
    """Generator and critic, frozen; nothing in the file is executed.

    The codes are those of one ALAE file, ``model_submitted`` at 1024 pixels; another one decodes them to something
    else.

    Raises:
        CourseError: the file cannot be read, or names and shapes are not those of a MindGAN.
    """
    parts = read_parts(path)
    states = [pick_part(parts, (name,), path) for name in ("Generator", "Critic")]
    noise, *hidden, latent = _widths(states[0])
    _, *critic, _ = _widths(states[1])
    config = MindConfig(latent, noise, tuple(hidden), tuple(critic))
    with torch.device("meta"):
        networks = MindGenerator(config), MindCritic(config)
    what = ("this MindGAN generator", "this MindGAN critic")
    generator, scorer = (freeze(load_exactly(*args)) for args in zip(networks, states, what, strict=True))
    return generator, scorer
