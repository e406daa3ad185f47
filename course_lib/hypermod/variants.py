"""Ways to learn new classes from a trained generator, and from none: same critic, data and steps for all."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..data import ImageSet
from ..errors import CourseError
from ..gans.stylegan import StyleGAN
from ..gans.stylegan_critic import StyleGANCritic
from .baselines import ConditionalStyleGAN
from .critic import ConditionalCritic
from .generator import HyperGenerator
from .transfer import TransferMethod, TransferSettings

__all__ = ["VARIANTS", "Variant", "build_variant"]


@dataclass(frozen=True)
class Variant:
    """One way.

    Attributes:
        meaning: in words.
        generator: ``hyper``, ``aligned`` (a self-aligned hyper generator is handed over), ``fine-tune`` or ``scratch``.
        options: of :class:`HyperGenerator`.
        settings: fields of :class:`TransferSettings` that differ.
    """

    meaning: str
    generator: str = "hyper"
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


_FAST = {"rate": 2e-3}
"""The learning rate at which the source itself was trained. A modulated kernel moves by several numbers at once, gain,
shift and class vector, and wants half of it."""

VARIANTS = {
    "hyper-modulation": Variant("frozen source, heads that begin as the source"),
    "contrastive": Variant("the same with the contrastive term", settings={"contrastive": 0.01}),
    "finetune": Variant("constant, noise, styles and to-RGB train too", options={"finetune": True}),
    "no augmentation": Variant(
        "finetune, and the critic sees the pictures unchanged", options={"finetune": True}, settings={"augment": False}
    ),
    "class styles": Variant("an offset of the style for each class", options={"class_styles": True}),
    "rank 4": Variant("low-rank heads", options={"rank": 4}),
    "rank 1": Variant("low-rank heads", options={"rank": 1}),
    "self-aligned": Variant("random heads after self-alignment, as published", "aligned"),
    "random start": Variant("random heads", options={"start": "random"}),
    "all weights": Variant("all weights train, class through the mapping network", "fine-tune", settings=_FAST),
    "from scratch": Variant("no source: generator and critic begin at random", "scratch", settings=_FAST),
}
"""Name → what it is. All but the last begin with the source's critic."""


def build_variant(
    name: str,
    data: ImageSet,
    source: StyleGAN,
    critic: StyleGANCritic,
    settings: TransferSettings | None = None,
    seed: int = 0,
    width: int = 16,
    aligned: HyperGenerator | None = None,
) -> TransferMethod:
    """The training of one variant, ready for :func:`course_lib.training.train`.

    Args:
        name: key of :data:`VARIANTS`.
        data: training pictures with ``labels["class"]``.
        source, critic: of the source domain; both are copied.
        settings: common to all variants.
        seed: of the weights that begin at random.
        width: of the class vector.
        aligned: a self-aligned generator with one class, for ``self-aligned``.

    Raises:
        CourseError: there is no such variant, or no aligned generator for the one that needs it.
    """
    if name not in VARIANTS:
        raise CourseError(f"there is no variant {name!r}: choose among {', '.join(VARIANTS)}.")
    variant, classes = VARIANTS[name], len(data.classes["class"])
    settings = replace(settings or TransferSettings(), **variant.settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if variant.generator == "scratch":
            generator = ConditionalStyleGAN(source.config, classes)
            return TransferMethod(data, generator, ConditionalCritic(source.config, classes, True), settings)
        if variant.generator == "fine-tune":
            generator = ConditionalStyleGAN.from_source(source, classes)
        elif variant.generator == "aligned":
            if aligned is None:
                raise CourseError("the variant 'self-aligned' needs a self-aligned generator: give aligned=….")
            generator = aligned.with_classes(classes)
        else:
            generator = HyperGenerator(deepcopy(source), classes, width, **variant.options)
        return TransferMethod(data, generator, ConditionalCritic.from_source(critic, classes), settings)
