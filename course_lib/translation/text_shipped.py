"""Text translators as files: the flow together with the linear map that makes its conditions."""

from pathlib import Path

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig
from ..data import load_kinds, load_people
from ..errors import CourseError
from ..experts import SentenceMemory, SourceExpert, freeze, load_expert
from ..paths import CHECKPOINTS
from ..released.dequantiser import Dequantiser, DequantiserConfig
from ..training import load_card, load_weights
from .caption_stage import CaptionStage
from .domains import people_expert
from .gan_target import GanTarget
from .text import CaptionSource
from .translator import Translator

__all__ = ["load_shipped_dequantiser", "load_text_to_biggan", "load_text_to_people", "text_tensors"]

_SOURCE, _FLOW = "source.", "flow."


def text_tensors(flow: GridFlow | ConditionalFlow, source: CaptionSource) -> dict[str, Tensor]:
    """What the checkpoint of a text translator holds."""
    parts = {_FLOW: flow.state_dict(), _SOURCE: source.tensors()}
    return {prefix + name: tensor for prefix, tensors in parts.items() for name, tensor in tensors.items()}


def _parts(name: str, kind: str, folder: Path) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor, Tensor], dict]:
    """Tensors of the flow, of the source, and the flow's configuration."""
    tensors, card = load_weights(name, folder)
    if card.kind != kind:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {kind}.")
    flow = {key.removeprefix(_FLOW): value for key, value in tensors.items() if key.startswith(_FLOW)}
    return flow, tuple(tensors[_SOURCE + key] for key in ("mean", "weight", "offset")), card.config


def load_text_to_people(
    sentences: SourceExpert | None = None, device: str | torch.device = "cpu", folder: Path = CHECKPOINTS
) -> Translator:
    """Pairs (sentence, style) → 64-pixel people.

    Args:
        sentences: the sentence expert; None opens the bundled one with its memory.
        device: where to put it.
        folder: where weights and cards are.

    Raises:
        CourseError: missing or damaged files, or a checkpoint of another kind.
    """
    tensors, source, config = _parts("text-to-people", "text to labels flow", folder)
    flow = GridFlow(GridFlowConfig.from_dict(config))
    flow.load_state_dict(tensors)
    classes = load_people().classes
    reader = CaptionSource(
        sentences or SentenceMemory(device=device), *source, people_expert(classes), classes["style"]
    ).to(device)
    return Translator(reader, freeze(flow.to(device)), load_expert("avatar-autoencoder", device, folder))


def load_text_to_biggan(
    sentences: SourceExpert | None = None,
    device: str | torch.device = "cpu",
    folder: Path = CHECKPOINTS,
    rounded: bool = False,
) -> Translator:
    """Sentences → noise and class embedding of ``avatar-biggan``; ``rounded`` as for :class:`GanTarget`."""
    tensors, source, config = _parts("text-to-biggan", "text flow", folder)
    flow = ConditionalFlow(FlowConfig.from_dict(config))
    flow.load_state_dict(tensors)
    kinds, known = load_kinds().classes["kind"], load_card("avatar-biggan", folder).recipe["classes"]
    stage = CaptionStage(load_expert("avatar-classifier", device, folder), kinds, known)
    reader = CaptionSource(sentences or SentenceMemory(device=device), *source, stage.labels).to(device)
    return Translator(reader, freeze(flow.to(device)), GanTarget.load("avatar-biggan", device, rounded, folder))


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
