"""Whole translators of Net2Net: one checkpoint that holds the flow and the experts on both of its sides."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError
from course_lib.released.basic_ae import BasicAutoencoder, BasicAutoencoderConfig, infer_basic_config
from course_lib.released.big_ae import BigAutoencoder, BigAutoencoderConfig, infer_big_config
from course_lib.released.biggan import BigGan, GeneratorConfig, infer_generator_config
from course_lib.released.captioner import Captioner, CaptionerConfig, infer_captioner_config
from course_lib.released.checkpoint import read_checkpoint
from course_lib.released.dequantiser import Dequantiser, DequantiserConfig, infer_dequantiser_config
from course_lib.released.flow import RELEASED_FLOWS, infer_flow_config, load_flow_state
from course_lib.released.flow_names import flow_layout
from course_lib.released.layers import FrozenNetwork
from course_lib.released.strict import SENTENCE_PREFIX, check_state, drop_sentence_model, layout_of, load_exactly, take

__all__ = [
    "RELEASED_TRANSLATORS",
    "TranslatorConfig",
    "TranslatorParts",
    "infer_translator_config",
    "load_translator_parts",
    "translator_layout",
]

Source = Literal["labels", "autoencoder", "sentences"]
_TARGET, _SOURCE, _FLOW, _CAPTIONER, _DEQUANTISER = (
    "first_stage_model.",
    "cond_stage_model.",
    "flow.",
    "to_c_model.",
    "dequantizer.",
)
_NETWORKS = {
    BigAutoencoderConfig: BigAutoencoder,
    GeneratorConfig: BigGan,
    BasicAutoencoderConfig: BasicAutoencoder,
    CaptionerConfig: Captioner,
    DequantiserConfig: Dequantiser,
}


@dataclass(frozen=True)
class TranslatorConfig:
    """What a translator's checkpoint holds.

    Attributes:
        flow: sizes of the flow.
        kind: of the source expert; labels have no tensors, and those of a sentence model are left out when reading.
        target: the target expert; None where it is a black box outside of the file (BigBiGAN).
        source: the source autoencoder.
        captioner, dequantiser: what a BigGAN translator made its training pairs with.
        labels: names of the labels in the order of their numbers.
    """

    flow: FlowConfig
    kind: Source
    target: BigAutoencoderConfig | GeneratorConfig | None = None
    source: BasicAutoencoderConfig | None = None
    captioner: CaptionerConfig | None = None
    dequantiser: DequantiserConfig | None = None
    labels: tuple[str, ...] = ()

    def networks(self) -> dict[str, FrozenNetwork]:
        """Prefix → network of every part but the flow, on the ``meta`` device: they take no memory yet."""
        configs = {
            _TARGET: self.target,
            _SOURCE: self.source,
            _CAPTIONER: self.captioner,
            _DEQUANTISER: self.dequantiser,
        }
        with torch.device("meta"):
            return {prefix: _NETWORKS[type(config)](config) for prefix, config in configs.items() if config is not None}


_AE = BigAutoencoderConfig()
RELEASED_TRANSLATORS: dict[str, TranslatorConfig] = {
    "anime": TranslatorConfig(RELEASED_FLOWS["anime"], "labels", _AE, labels=("photograph", "anime")),
    "portraits": TranslatorConfig(RELEASED_FLOWS["portraits"], "labels", _AE, labels=("photograph", "oil portrait")),
    "ccfq": TranslatorConfig(RELEASED_FLOWS["ccfq"], "labels", _AE, labels=("CelebA", "CelebA-HQ", "FFHQ")),
    "faces32to256": TranslatorConfig(RELEASED_FLOWS["faces32to256"], "autoencoder", _AE, BasicAutoencoderConfig()),
    "sbert_ae": TranslatorConfig(RELEASED_FLOWS["sbert_ae"], "sentences", BigAutoencoderConfig(latent_dim=256)),
    "sbert_bigbigan": TranslatorConfig(RELEASED_FLOWS["sbert_bigbigan"], "sentences"),
    "sbert_biggan": TranslatorConfig(
        RELEASED_FLOWS["sbert_biggan"],
        "sentences",
        GeneratorConfig(256),
        captioner=CaptionerConfig(),
        dequantiser=DequantiserConfig(),
    ),
}


@dataclass(frozen=True)
class TranslatorParts:
    """What was read of a translator's checkpoint; ``course_lib.translation.load_released`` joins it into one.

    Attributes:
        config: what the file turned out to be.
        flow: in evaluation mode.
        source: the source autoencoder; None for labels and sentences.
        target: None where the target is outside of the file.
        captioner, dequantiser: of a BigGAN translator.
        step: training steps that the file says it has behind it.
        notes: what was left out or filled in, in words.
    """

    config: TranslatorConfig
    flow: ConditionalFlow
    source: BasicAutoencoder | None
    target: BigAutoencoder | BigGan | None
    captioner: Captioner | None
    dequantiser: Dequantiser | None
    step: int | None
    notes: tuple[str, ...]


def translator_layout(config: TranslatorConfig) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """All tensors of a translator's checkpoint but those of a sentence model, in the order of the file.

    Nothing large is allocated.
    """
    networks = config.networks()
    flow = {name: (entry.shape, entry.dtype) for name, entry in flow_layout(config.flow).items()}
    layout = {}
    for prefix in (_TARGET, _SOURCE, _FLOW, _CAPTIONER, _DEQUANTISER):
        part = flow if prefix == _FLOW else layout_of(networks[prefix]) if prefix in networks else {}
        layout.update({prefix + name: wanted for name, wanted in part.items()})
    return layout


def infer_translator_config(state: Mapping[str, Tensor]) -> TranslatorConfig:
    """Reads off the tensors what a checkpoint holds and how large it is.

    Without a tensor below ``cond_stage_model.`` the source is taken for labels, or for sentences where the target is
    BigGAN.

    Raises:
        CourseError: there is no flow, or a tensor that tells a size is missing.
    """
    parts = {prefix: take(state, prefix) for prefix in (_TARGET, _SOURCE, _FLOW, _CAPTIONER, _DEQUANTISER)}
    target = source = None
    if any(name.startswith("encoder.") for name in parts[_TARGET]):
        target = infer_big_config(parts[_TARGET])
    elif parts[_TARGET]:
        target = infer_generator_config(take(parts[_TARGET], "decoder."))
    kind: Source = "sentences" if isinstance(target, GeneratorConfig) or take(state, SENTENCE_PREFIX) else "labels"
    if any(name.startswith("autoencoder.") for name in parts[_SOURCE]):
        kind, source = "autoencoder", infer_basic_config(parts[_SOURCE])
    return TranslatorConfig(
        infer_flow_config(parts[_FLOW]),
        kind,
        target,
        source,
        infer_captioner_config(parts[_CAPTIONER]) if parts[_CAPTIONER] else None,
        infer_dequantiser_config(parts[_DEQUANTISER]) if parts[_DEQUANTISER] else None,
    )


def load_translator_parts(
    path: str | Path, config: TranslatorConfig | str | None = None, normalise_twice: bool = True
) -> TranslatorParts:
    """Reads a translator's checkpoint.

    Args:
        path: ``.safetensors``, a torch file or a Lightning checkpoint.
        config: what the file must fit, or a name in ``RELEASED_TRANSLATORS``; None reads it off the file.
        normalise_twice: see :class:`course_lib.released.BigAutoencoderConfig`.

    Raises:
        CourseError: the file cannot be read, or its names and shapes are not exactly those of the configuration.
    """
    if isinstance(config, str) and config not in RELEASED_TRANSLATORS:
        raise CourseError(f"There is no released translator {config!r}: choose of {', '.join(RELEASED_TRANSLATORS)}.")
    checkpoint = read_checkpoint(path)
    config = RELEASED_TRANSLATORS[config] if isinstance(config, str) else config
    config = config or infer_translator_config(checkpoint.state)
    if isinstance(config.target, BigAutoencoderConfig):
        config = replace(config, target=replace(config.target, normalise_twice=normalise_twice))
    state, notes = drop_sentence_model(checkpoint.state)
    check_state(state, translator_layout(config), "this translator")
    networks = {
        prefix: load_exactly(network, take(state, prefix), prefix) for prefix, network in config.networks().items()
    }
    return TranslatorParts(
        config,
        load_flow_state(take(state, _FLOW), config.flow),
        networks.get(_SOURCE),
        networks.get(_TARGET),
        networks.get(_CAPTIONER),
        networks.get(_DEQUANTISER),
        checkpoint.step,
        notes,
    )
