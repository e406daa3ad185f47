"""How every shipped checkpoint is trained: ``make train NAME=…`` or ``course train NAME``."""

from importlib import import_module
from typing import Any

from ..errors import CourseError
from ..profiles import current

__all__ = ["RECIPES", "train"]

RECIPES = {
    "avatar-classifier": ("experts", "train_classifier"),
    "avatar-judge": ("experts", "train_judge"),
    "avatar-autoencoder": ("experts", "train_autoencoder"),
    "avatar-segmenter": ("experts", "train_segmenter"),
    "avatar-stylegan": ("generators", "train_stylegan"),
    "avatar-biggan": ("generators", "train_biggan"),
    "avatar-alae": ("generators", "train_alae"),
    "superresolution-8": ("translators", "train_translator", "superresolution-8"),
    "superresolution-8-mlp": ("translators", "train_baseline", "superresolution-8"),
    "superresolution-16": ("translators", "train_translator", "superresolution-16"),
    "layer-comparison": ("translators", "train_layers"),
    "avatar-biggan-codes": ("bn_transfer", "train_codes"),
    "avatar-bn-transfer": ("bn_transfer", "train_transfer"),
    "avatar-bn-transfer-comparison": ("bn_transfer", "train_bn_transfer_comparison"),
    "avatar-hypermod": ("hypermod", "train_hypermod"),
    "avatar-hypermod-comparison": ("hypermod", "train_hypermod_comparison"),
    "avatar-mind2mind": ("mind2mind", "train_mindgan", "avatar-mind2mind"),
    "avatar-mind2mind-style": ("mind2mind", "train_mindgan", "avatar-mind2mind-style"),
    "avatar-mind2mind-far": ("mind2mind", "train_mindgan", "avatar-mind2mind-far"),
    "avatar-mind2mind-comparison": ("mind2mind", "train_mind2mind_comparison"),
    "which-method": ("which_method", "train_which_method"),
    "classifier-shape": ("experts", "train_biased", "classifier-shape"),
    "classifier-texture": ("experts", "train_biased", "classifier-texture"),
    "segmenter-argmax": ("translators", "train_translator", "segmenter-argmax"),
    "segmenter-logits": ("translators", "train_translator", "segmenter-logits"),
    "segmenter-early": ("translators", "train_translator", "segmenter-early"),
    "segmenter-middle": ("translators", "train_translator", "segmenter-middle"),
    "segmenter-early-mlp": ("translators", "train_baseline", "segmenter-early"),
    "segmenter-middle-mlp": ("translators", "train_baseline", "segmenter-middle"),
    "segmenter-argmax-mlp": ("translators", "train_baseline", "segmenter-argmax"),
    "colourisation": ("translators", "train_translator", "colourisation"),
    "inpainting": ("translators", "train_translator", "inpainting"),
    "edges-shape": ("translators", "train_translator", "edges-shape"),
    "edges-texture": ("translators", "train_translator", "edges-texture"),
    "shape-appearance": ("translators", "train_translator", "shape-appearance"),
    "people-labels": ("translators", "train_labels"),
    "text-to-people": ("translators", "train_text_to_people"),
    "text-to-biggan": ("translators", "train_text_to_biggan"),
}
"""Checkpoint name → module of this package, function, and what it is called with. In the order to train them in."""


def train(name: str, profile: str | None = None, **options: Any) -> Any:
    """Trains the checkpoint called ``name`` and publishes it if it beats the shipped one; returns its card.

    Under ``torchrun`` only the first process scores and publishes; the others return None.

    Args:
        name: a key of :data:`RECIPES`.
        profile: budget; the current one by default.
        options: fields of :class:`course_lib.recipes.recipe.Job`.

    Raises:
        CourseError: there is no such recipe.
    """
    from .recipe import Job, TrainingDone

    if name not in RECIPES:
        raise CourseError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}.")
    module, function, *arguments = RECIPES[name]
    try:
        return getattr(import_module(f".{module}", __package__), function)(Job(current(profile), **options), *arguments)
    except TrainingDone:
        return None
