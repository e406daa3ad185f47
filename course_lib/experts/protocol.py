"""What a network must offer to be an expert, how it is kept frozen, and opening those that come with the course."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MethodType
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from ..errors import CourseError
from ..profiles import CHECKPOINTS
from ..training.runs import Card, folder_of, load_card, load_weights
from .networks import LatentSpace

M = TypeVar("M", bound=nn.Module)
Device = str | torch.device


@runtime_checkable
class SourceExpert(Protocol):
    """An expert that gives conditions, ``(K,)`` or ``(C, H, W)`` each (Φ in the paper)."""

    condition_shape: tuple[int, ...]

    def encode(self, x: Any) -> Tensor:
        """Condition ``(B, *condition_shape)``, detached, for a batch of images in [−1, 1], captions or labels."""


@runtime_checkable
class TargetExpert(Protocol):
    """An expert whose latent the flow generates (Θ and Λ in the paper)."""

    latent_dim: int

    def encode(self, x: Tensor) -> Tensor:
        """Latent ``(B, latent_dim)``, detached, of images ``(B, 3, S, S)`` in [−1, 1]."""

    def decode(self, latent: Tensor) -> Tensor:
        """Images ``(B, 3, S, S)`` in [−1, 1] for latents ``(B, latent_dim)``."""


def freeze(module: M) -> M:
    """Puts ``module`` in evaluation mode for good: no gradients, and a parent's later ``train()`` does not reach it."""
    module.eval().requires_grad_(False)
    for part in module.modules():
        # Bound to the instance, as in the original code: nn.Module.train calls that of each child.
        part.train = MethodType(lambda self, mode=True: self, part)
    return module


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers: equal before and after means nothing moved."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


_KINDS = {
    "grid autoencoder": ("experts.networks", "GridAutoencoder", "GridAutoencoderConfig"),
    "classifier": ("experts.networks", "Classifier", "ClassifierConfig"),
    "segmenter": ("experts.networks", "Segmenter", "SegmenterConfig"),
    "biggan generator": ("gans.biggan", "Generator", "BigGANConfig"),
    "biggan critic": ("gans.biggan", "Discriminator", "BigGANConfig"),
    "stylegan": ("gans.stylegan", "StyleGAN", "StyleGANConfig"),
    "stylegan critic": ("gans.stylegan", "StyleGANCritic", "StyleGANConfig"),
    "alae": ("gans.alae", "ALAE", "ALAEConfig"),
}
"""Kind of a card → module, network and its configuration. Who opens a classifier imports no generators."""


def load_expert(name: str, device: Device = "cpu", folder: Path = CHECKPOINTS) -> torch.nn.Module:
    """A frozen network of a folder of weights and cards: ``avatar-autoencoder`` or ``avatar-biggan``, for example."""
    tensors, card = load_weights(name, folder)
    if card.kind not in _KINDS:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not an expert: choose {' or '.join(_KINDS)}.")
    place, network, config = _KINDS[card.kind]
    found = import_module(f"course_lib.{place}")
    try:
        module = getattr(found, network)(getattr(found, config)(**card.config))
        module.load_state_dict(tensors)
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        found = f"does not fit this version of the course ({str(error).splitlines()[-1].strip()})"
        raise CourseError(f"checkpoint {name!r} {found}: update both with git.") from error
    return freeze(module.to(device, memory_format=torch.channels_last))


@torch.no_grad()
def load_over_source(
    name: str, kind: str, build: Callable, own: Callable, device: Device = "cpu", folder: Path = CHECKPOINTS
) -> tuple[nn.Module, Card]:
    """A frozen network that was made from the one its card names as ``config["source"]``, and the card. ``build`` takes
    the ``config`` with the source itself and the number of classes, whose names the network gets; ``own`` gives of the
    network what the file holds, all that is new, as in a state dict: the tensors themselves, which are overwritten."""
    tensors, card = load_weights(name, folder)
    if card.kind != kind:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {kind}.")
    source, classes = card.config["source"], list(card.config["classes"])
    made_of = load_expert(source, folder=folder_of(source, folder))
    network = build(**card.config | {"source": made_of, "classes": len(classes)})
    network.class_names = classes
    wanted = own(network)
    if {key: t.shape for key, t in wanted.items()} != {key: t.shape for key, t in tensors.items()}:
        raise CourseError(f"checkpoint {name!r} does not fit this version of the course: update both with git.")
    for key, tensor in wanted.items():
        tensor.copy_(tensors[key])
    return freeze(network.to(device, memory_format=torch.channels_last)), card


@dataclass(frozen=True)
class SourceModel:
    """What a transfer begins from, frozen: a generator, its discriminator, and the space that it draws in."""

    name: str  # of the generator's checkpoint
    generator: nn.Module
    discriminator: nn.Module
    space: LatentSpace
    classes: tuple[str, ...] = ()  # names of what a class-conditional generator draws, else empty

    @classmethod
    def load(cls, name: str, device: Device = "cpu", folder: Path = CHECKPOINTS) -> "SourceModel":
        """Opens ``NAME``, ``NAME-critic`` and the autoencoder that the card names; without one, a CourseError."""
        card = load_card(name, folder)
        if "space" not in card.recipe:
            raise CourseError(f"{name!r} does not draw latents of an autoencoder: take avatar-stylegan, for example.")
        networks = (load_expert(which, device, folder) for which in (name, f"{name}-critic"))
        space = LatentSpace(load_expert(card.recipe["space"], device, folder))
        return cls(name, *networks, space, tuple(card.recipe.get("classes", ())))
