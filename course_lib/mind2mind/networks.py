"""MindGAN: the small pair that learns in latent space, and nothing else of a GAN; released files of one, too.

Source: Frégier and Gouray 2021 (Mind2Mind) and their code.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..experts import freeze
from ..released.alae import read_mindgan
from ..released.strict import fill, layout_of

__all__ = ["DIGITS", "MindConfig", "MindCritic", "MindGenerator", "load_released", "uniform_noise"]


@dataclass(frozen=True)
class MindConfig:
    """Sizes; the defaults are the published ones at 1024 pixels.

    Attributes:
        latent: length of a code, 512 for the ALAE that they use.
        noise: length of z.
        generator, critic: widths of their hidden layers.
        batch_norm: in the generator, as published at 28 pixels only.
        tanh: at the generator's end, where the encoder ends in one too (28 pixels).
    """

    latent: int = 512
    noise: int = 128
    generator: tuple[int, ...] = (128, 256, 512)
    critic: tuple[int, ...] = (512, 256, 128)
    batch_norm: bool = False
    tanh: bool = False

    def __post_init__(self) -> None:
        for name in ("generator", "critic"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if min(self.latent, self.noise, *self.generator, *self.critic) < 1:
            raise CourseError(f"MindGAN needs positive sizes, not {self}.")

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint card."""
        return asdict(self)


DIGITS = MindConfig(256, 128, (512, 512), (256, 256), batch_norm=True, tanh=True)
"""The published sizes at 28 pixels; the length of z is not published and taken from the large model."""


def uniform_noise(count: int, config: MindConfig, generator: torch.Generator) -> Tensor:
    """``(count, noise)``, uniform in [−1, 1] as published, drawn on the CPU: a seed means the same everywhere."""
    return 2 * torch.rand(count, config.noise, generator=generator) - 1


def _chain(widths: list[int], batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), *([nn.BatchNorm1d(outputs)] if batch_norm else []), nn.ReLU()]
    return nn.Sequential(*layers[: -2 if batch_norm else -1])


class MindGenerator(nn.Module):
    """g₀: noise ``(B, noise)`` → codes ``(B, latent)``."""

    def __init__(self, config: MindConfig):
        super().__init__()
        self.config = config
        self.model = _chain([config.noise, *config.generator, config.latent], config.batch_norm)

    def forward(self, z: Tensor) -> Tensor:
        """Codes, without activation at the end unless ``config.tanh``."""
        codes = self.model(z)
        return codes.tanh() if self.config.tanh else codes


class MindCritic(nn.Module):
    """c₀: codes ``(B, latent)`` → scores ``(B,)``, real high."""

    def __init__(self, config: MindConfig):
        super().__init__()
        self.config = config
        self.model = _chain([config.latent, *config.critic, 1], False)

    def forward(self, codes: Tensor) -> Tensor:
        """Scores."""
        return self.model(codes)[:, 0]


def load_released(path: str | Path) -> tuple[MindGenerator, MindCritic]:
    """Generator and critic of the authors' file (``Generator``, ``Critic``), frozen; nothing in it is executed.

    The codes are those of one ALAE file, ``model_submitted`` at 1024 pixels; another one decodes them to something
    else.

    Raises:
        CourseError: the file cannot be read, or names and shapes are not those of a MindGAN.
    """
    (drawn, tensors), (scored, others) = read_mindgan(path)
    (noise, *hidden, latent), (_, *critic, _) = drawn, scored
    config = MindConfig(latent, noise, tuple(hidden), tuple(critic))
    with torch.device("meta"):
        generator, scorer = MindGenerator(config), MindCritic(config)
    fill(generator, tensors, layout_of(generator), "this MindGAN generator")
    fill(scorer, others, layout_of(scorer), "this MindGAN critic")
    return freeze(generator), freeze(scorer)
