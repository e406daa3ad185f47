"""Opens the translators that come with the course, and those that the authors of Net2Net released, frozen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..cinn.flow import ConditionalFlow, FlowConfig, GridFlow, GridFlowConfig
from ..data.avatars import load_kinds, load_people
from ..errors import CourseError
from ..experts.conditions import LabelExpert, SentenceExpert
from ..experts.protocol import Device, SourceExpert, TargetExpert, freeze, load_expert
from ..profiles import CHECKPOINTS
from ..training.runs import load_card, load_weights
from .domains import people_expert
from .text import CaptionSource, CaptionStage, GanTarget
from .translator import SOURCES, GridRegressor, LowResolution, PooledSource, TransformedExpert, Translator

_SOURCE, _FLOW = "source.", "flow."


def _open(name: str, kinds: Sequence[str], device: Device, folder: Path = CHECKPOINTS) -> tuple[Any, dict[str, Tensor]]:
    """The frozen network of one of ``kinds``, and what its file holds beside it (without prefix)."""
    tensors, card = load_weights(name, folder)
    if card.kind not in kinds:
        raise CourseError(f"checkpoint {name!r} is a {card.kind}, not a {' or '.join(kinds)}.")
    if card.kind in ("conditional flow", "text flow"):
        network: nn.Module = ConditionalFlow(FlowConfig.from_dict(card.config))
    else:
        config = GridFlowConfig.from_dict(card.config)
        network = GridRegressor(config, card.recipe["width"]) if card.kind == "grid regressor" else GridFlow(config)
    beside = {key.removeprefix(_SOURCE): tensors.pop(key).to(device) for key in [*tensors] if key.startswith(_SOURCE)}
    network.load_state_dict({key.removeprefix(_FLOW): value for key, value in tensors.items()})
    return freeze(network.to(device)), beside


def load_flow(name: str, device: Device = "cpu", folder: Path = CHECKPOINTS) -> ConditionalFlow | GridFlow:
    """A shipped conditional flow, flat or on a grid, frozen."""
    return _open(name, ("conditional flow", "grid flow"), device, folder)[0]


def load_regressor(name: str, device: Device = "cpu", folder: Path = CHECKPOINTS) -> GridRegressor:
    """A shipped baseline from condition to latent, frozen."""
    return _open(name, ("grid regressor",), device, folder)[0]


def load_superresolution(size: int = 8, device: Device = "cpu", folder: Path = CHECKPOINTS) -> Translator:
    """Super-resolution of people to 64 pixels: the flow from ``size`` (8 or 16) pixels and the grid autoencoder."""
    flow = load_flow(f"superresolution-{size}", device, folder)
    return Translator(LowResolution(size), flow, load_expert("avatar-autoencoder", device, folder))


def load_choice(name: str, device: Device = "cpu", folder: Path = CHECKPOINTS) -> Translator:
    """A shipped translator into the autoencoder of people, with its source, a key of :data:`SOURCES`."""
    if name not in SOURCES:
        raise CourseError(f"there is no source {name!r}: choose one of {', '.join(SOURCES)}.")
    flow, state = _open(name, ("choice",), device, folder)
    source = PooledSource(SOURCES[name](device), flow.config.condition_shape, **state)
    return Translator(source, flow, load_expert("avatar-autoencoder", device))


def load_shipped_dequantiser(device: Device = "cpu") -> nn.Module:
    """The dequantiser of the course's BigGAN, frozen: embeddings ``(B, E)`` and a generator → random neighbours."""
    from ..released.net2net_experts import Dequantiser, DequantiserConfig

    tensors, card = load_weights("dequantiser")
    network = Dequantiser(DequantiserConfig(**card.config))
    network.load_state_dict(tensors)
    return freeze(network.to(device))


def text_tensors(flow: ConditionalFlow, source: CaptionSource) -> dict[str, Tensor]:
    """What the checkpoint of a text translator holds: the flow, and the linear map that makes conditions for it."""
    parts = {_FLOW: flow.state_dict(), _SOURCE: source.tensors()}
    return {prefix + name: tensor for prefix, tensors in parts.items() for name, tensor in tensors.items()}


def load_text_to_people(device: Device = "cpu") -> Translator:
    """Pairs (sentence, style) → 64-pixel people."""
    tensors, card = load_weights("text-to-people")
    classes, tensors = load_people().classes, {name: tensor.to(device) for name, tensor in tensors.items()}
    labels, sentences = people_expert(classes), SentenceExpert(device=device)
    reader = CaptionSource(sentences, **tensors, labels=labels, names=classes["style"])
    return Translator(reader, load_flow(card.recipe["flow"], device), load_expert("avatar-autoencoder", device))


def load_text_to_biggan(sentences: SourceExpert, device: Device = "cpu", rounded: bool = False) -> Translator:
    """Sentences → noise and class embedding of ``avatar-biggan``; ``rounded`` as for :class:`GanTarget`."""
    flow, tensors = _open("text-to-biggan", ("text flow",), device)
    kinds, known = load_kinds().classes["kind"], load_card("avatar-biggan").recipe["classes"]
    stage = CaptionStage(load_expert("avatar-classifier", device), kinds, known)
    reader = CaptionSource(sentences, **tensors, labels=stage.labels, always="kind")
    return Translator(reader, flow, GanTarget.load("avatar-biggan", device, rounded))


def as_captioned(sentences: Sequence[str]) -> list[str]:
    """Sentences as the BigGAN translator met them, in lower case, with its captioner's end words."""
    return [f"<start> {' '.join(sentence.lower().split())} <end> " for sentence in sentences]


def load_released_translator(
    path: str | Path,
    config: Any = None,
    sentences: SourceExpert | None = None,
    target: TargetExpert | None = None,
    sample_condition: bool = False,
    captioner_prompts: bool = True,
    device: Device = "cpu",
) -> Translator:
    """A released translator, see :func:`course_lib.released.net2net.load_translator_parts` for ``path`` and ``config``.
    It translates label numbers ``int64 (B,)``; or pictures ``(B, 3, S, S)`` in [−1, 1] of 32 pixels or more, of which
    one pixel in each square is kept, as in the authors' training; or sentences. ``sentences`` and ``target``, sentence
    model or black box, are needed where the file has none. ``sample_condition`` draws the condition of super-resolution
    from the source's posterior, as the released code does, else it is the mean; ``captioner_prompts`` as in
    :func:`as_captioned`."""
    from ..released.net2net import load_translator_parts
    from ..released.net2net_experts import BigGan

    parts = load_translator_parts(path, config)
    if target is None and parts.target is None:
        hint = f"a BlackBox around BigBiGAN with latents of {parts.flow.config.dim} numbers"
        raise CourseError(f"the target of this translator is not in its checkpoint: pass target=, for example {hint}.")
    (width,) = parts.flow.config.condition_shape
    if parts.source is not None:
        parts.source.sample_codes = sample_condition
        source: SourceExpert = LowResolution(parts.source.config.size, parts.source.to(device), "nearest")
    elif sentences is not None:
        wrapped = captioner_prompts and isinstance(parts.target, BigGan)
        source = TransformedExpert(sentences, as_captioned) if wrapped else sentences
    elif parts.config.kind == "labels":
        source = LabelExpert(width)
    else:
        names = "bert-large-nli-stsb-mean-tokens for 1024 and bert-base-nli-stsb-mean-tokens for 768"
        advice = f"pass sentences=SentenceExpert(NAME, download=True) with {names}"
        raise CourseError(f"this translator starts from sentences of {width} numbers: {advice}.")
    return Translator(source, freeze(parts.flow.to(device)), target or parts.target.to(device))
