"""Opens a translator that the authors of Net2Net released, ready to translate."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CourseError
from ..experts import LabelExpert, SourceExpert, TargetExpert, freeze
from ..released import BigGan, TranslatorConfig, TranslatorParts, load_translator_parts
from .superresolution import LowResolution
from .translator import Translator

__all__ = ["CaptionerPrompts", "load_released"]


class CaptionerPrompts:
    """Source expert: sentences in the form in which the BigGAN translator met its captions.

    They came from a captioner that writes lower case and leaves its start and end words in, so that the sentence model
    embedded ``"<start> a red bird <end> "``. A plain sentence lies elsewhere in the embedding.

    Args:
        sentences: embeds the result.
    """

    def __init__(self, sentences: SourceExpert):
        self.sentences, self.condition_shape = sentences, tuple(sentences.condition_shape)

    def encode(self, x: Sequence[str]) -> Tensor:
        """Conditions ``(B, K)`` of plain sentences."""
        return self.sentences.encode([f"<start> {' '.join(sentence.lower().split())} <end> " for sentence in x])


def load_released(
    path: str | Path,
    config: TranslatorConfig | str | None = None,
    sentences: SourceExpert | None = None,
    target: TargetExpert | None = None,
    normalise_twice: bool = True,
    sample_condition: bool = False,
    captioner_prompts: bool = True,
    device: str | torch.device = "cpu",
) -> Translator:
    """A released translator, frozen.

    What goes into ``translate``: label numbers ``int64 (B,)``; pictures ``(B, 3, S, S)`` in [−1, 1] of 32 pixels or
    more for super-resolution, of which one pixel in each square is kept, as in the authors' training; sentences for
    text to image.

    Args:
        path: the checkpoint, see :func:`course_lib.released.load_translator_parts`.
        config: what it must fit, or a name in ``course_lib.released.RELEASED_TRANSLATORS``; None reads it off the file.
        sentences: the sentence model, for a translator that starts from sentences: the checkpoint's own copy depends on
            the library version that wrote it. ``bert-large-nli-stsb-mean-tokens`` for the translators into an
            autoencoder and into BigBiGAN, ``bert-base-nli-stsb-mean-tokens`` for the one into BigGAN.
        target: the target, for a translator whose target is a black box outside of the checkpoint (BigBiGAN).
        normalise_twice: the autoencoder's double normalisation, which its weights need.
        sample_condition: draw the condition of super-resolution from the source's posterior, as the released code does
            at every call. By default it is the posterior's mean, and ``transfer`` gives the same picture twice.
        captioner_prompts: wrap sentences for the BigGAN translator as its captioner did.
        device: where to put it.

    Raises:
        CourseError: the file cannot be read or does not fit, or an expert that it does not hold was not given or has
            other sizes.
    """
    parts = load_translator_parts(path, config, normalise_twice)
    if target is None and parts.target is None:
        raise CourseError(
            "the target of this translator is not in its checkpoint: pass target=, for example a BlackBox around "
            f"BigBiGAN with latents of {parts.flow.config.dim} numbers."
        )
    source = _source(parts, sentences, sample_condition, captioner_prompts, device)
    return Translator(source, freeze(parts.flow.to(device)), target or parts.target.to(device))


def _source(
    parts: TranslatorParts, sentences: Any, sample: bool, prompts: bool, device: str | torch.device
) -> SourceExpert:
    (width,) = parts.flow.config.condition_shape
    if parts.source is not None:
        parts.source.config = replace(parts.source.config, sample_codes=sample)
        return LowResolution(parts.source.config.size, parts.source.to(device), "nearest")
    if sentences is not None:
        return CaptionerPrompts(sentences) if prompts and isinstance(parts.target, BigGan) else sentences
    if parts.config.kind == "labels":
        return LabelExpert(width)
    raise CourseError(
        f"this translator starts from sentences of {width} numbers: pass sentences=SentenceExpert(NAME, download=True) "
        "with bert-large-nli-stsb-mean-tokens for 1024 and bert-base-nli-stsb-mean-tokens for 768."
    )
