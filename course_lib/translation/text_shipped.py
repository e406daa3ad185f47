"""Text translators as files: the linear map that makes conditions of sentences, and the flow that it feeds."""

from pathlib import Path

import torch
from torch import Tensor

from ..cinn import ConditionalFlow, FlowConfig
from ..data import load_kinds, load_people
from ..errors import CourseError
from ..experts import SentenceMemory, SourceExpert, freeze, load_expert
from ..paths import CHECKPOINTS
from ..released import Dequantiser, DequantiserConfig
from ..training import load_card, load_weights
from .caption_stage import CaptionStage
from .domains import people_expert
from .gan_target import GanTarget
from .shipped import load_flow
from .text import CaptionSource
from .translator import Translator

__all__ = ["load_shipped_dequantiser", "load_text_to_biggan", "load_text_to_people", "text_tensors"]

_SOURCE, _FLOW = "source.", "flow."


def text_tensors(flow: ConditionalFlow, source: CaptionSource) -> dict[str, Tensor]:
    """What the checkpoint of a text translator holds."""
    parts = {_FLOW: flow.state_dict(), _SOURCE: source.tensors()}
    return {prefix + name: tensor for prefix, tensors in parts.items() for name, tensor in tensors.items()}


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
    tensors, card = load_weights("text-to-people", folder)
    if card.kind != "sentence reader":
        raise CourseError(f"checkpoint 'text-to-people' is a {card.kind}, not a sentence reader.")
    classes, memory = load_people().classes, sentences or SentenceMemory(device=device)
    source = [tensors[key] for key in ("mean", "weight", "offset")]
    reader = CaptionSource(memory, *source, people_expert(classes), classes["style"]).to(device)
    flow = load_flow(card.recipe["flow"], device, folder)
    return Translator(reader, flow, load_expert("avatar-autoencoder", device, folder))


def load_text_to_biggan(
    sentences: SourceExpert | None = None,
    device: str | torch.device = "cpu",
    folder: Path = CHECKPOINTS,
    rounded: bool = False,
) -> Translator:
    """Sentences → noise and class embedding of ``avatar-biggan``; ``rounded`` as for :class:`GanTarget`."""
    tensors, card = load_weights("text-to-biggan", folder)
    if card.kind != "text flow":
        raise CourseError(f"checkpoint 'text-to-biggan' is a {card.kind}, not a text flow.")
    flow = ConditionalFlow(FlowConfig.from_dict(card.config))
    flow.load_state_dict({key.removeprefix(_FLOW): value for key, value in tensors.items() if key.startswith(_FLOW)})
    source = [tensors[_SOURCE + key] for key in ("mean", "weight", "offset")]
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
