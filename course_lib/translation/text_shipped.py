"""Text translators as files: the flow together with the principal components that its conditions are made of."""

from pathlib import Path

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig
from ..errors import CourseError
from ..experts import SentenceMemory, SourceExpert, TargetExpert, freeze, load_expert
from ..paths import CHECKPOINTS
from ..released.dequantiser import Dequantiser, DequantiserConfig
from ..training import load_weights
from .gan_target import GanTarget
from .text import CaptionSource
from .translator import Translator

__all__ = ["KIND", "load_shipped_dequantiser", "load_text_to_autoencoder", "load_text_to_biggan", "text_tensors"]

KIND = "text flow"
_SOURCE, _FLOW = "source.", "flow."


def text_tensors(flow: ConditionalFlow, source: CaptionSource) -> dict[str, Tensor]:
    """What the checkpoint of a text translator holds."""
    parts = {_FLOW: flow.state_dict(), _SOURCE: source.tensors()}
    return {prefix + name: tensor for prefix, tensors in parts.items() for name, tensor in tensors.items()}


def _load(
    name: str, target: TargetExpert, sentences: SourceExpert | None, device: str | torch.device, folder: Path
) -> Translator:
    tensors, card = load_weights(name, folder)
    if card.kind != KIND:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {KIND}.")
    flow = ConditionalFlow(FlowConfig.from_dict(card.config))
    flow.load_state_dict({key.removeprefix(_FLOW): value for key, value in tensors.items() if key.startswith(_FLOW)})
    mean, axes = (tensors[_SOURCE + key] for key in ("mean", "axes"))
    source = CaptionSource(sentences or SentenceMemory(device=device), mean, axes).to(device)
    return Translator(source, freeze(flow.to(device)), target)


def load_text_to_autoencoder(
    sentences: SourceExpert | None = None, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> Translator:
    """Captions → 64-pixel pictures of the course's autoencoder.

    Args:
        sentences: the sentence expert; None opens the bundled one with its memory.
        device: where to put it.
        folder: where weights and cards are.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    return _load("text-to-autoencoder", load_expert("autoencoder64", device, folder), sentences, device, folder)


def load_text_to_biggan(
    sentences: SourceExpert | None = None,
    device: str | torch.device = "cpu",
    folder: Path = CHECKPOINTS,
    rounded: bool = False,
) -> Translator:
    """Captions → 32-pixel pictures of the course's BigGAN; ``rounded`` as for :class:`GanTarget`, else as above."""
    target = GanTarget(load_expert("biggan32", device, folder), rounded)
    return _load("text-to-biggan", target, sentences, device, folder)


def load_shipped_dequantiser(device: str | torch.device = "cpu", folder: Path = CHECKPOINTS) -> Dequantiser:
    """The dequantiser of the course's BigGAN, frozen.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    tensors, card = load_weights("dequantiser", folder)
    if card.kind != "dequantiser":
        raise CourseError(f"checkpoint 'dequantiser' is a {card.kind}.")
    network = Dequantiser(DequantiserConfig(**card.config))
    network.load_state_dict(tensors)
    return network.frozen().to(device)
