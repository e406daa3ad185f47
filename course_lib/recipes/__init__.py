"""How every shipped checkpoint is trained: ``make train NAME=…`` or ``course train NAME``."""

from importlib import import_module
from typing import Any

from ..errors import CourseError
from ..profiles import current

__all__ = ["RECIPES", "train"]

RECIPES = {
    "avatar-classifier": ("classifiers", "train_classifier"),
    "avatar-judge": ("classifiers", "train_judge"),
    "avatar-autoencoder": ("autoencoders", "train_autoencoder"),
    "avatar-segmenter": ("segmenter", "train_segmenter"),
    "avatar-stylegan": ("generators", "train_stylegan"),
    "avatar-biggan": ("generators", "train_biggan"),
    "avatar-alae": ("generators", "train_alae"),
    "superresolution-8": ("translators", "train_superresolution8"),
    "superresolution-8-mlp": ("translators", "train_superresolution8_mlp"),
    "superresolution-16": ("translators", "train_superresolution16"),
    "layer-comparison": ("choices", "train_layer_comparison"),
    "avatar-biggan-codes": ("bn_transfer", "train_codes"),
    "avatar-bn-transfer": ("bn_transfer", "train_transfer"),
    "avatar-bn-transfer-comparison": ("bn_transfer", "train_comparison"),
    "avatar-hypermod": ("hypermod", "train_hypermod"),
    "avatar-hypermod-comparison": ("hypermod", "train_hypermod_comparison"),
    "avatar-mind2mind": ("mind2mind", "train_near"),
    "avatar-mind2mind-style": ("mind2mind", "train_style"),
    "avatar-mind2mind-far": ("mind2mind", "train_far"),
    "avatar-mind2mind-comparison": ("mind2mind_comparison", "train_comparison"),
    "classifier-shape": ("biased_classifiers", "train_shape_classifier"),
    "classifier-texture": ("biased_classifiers", "train_texture_classifier"),
    "segmenter-argmax": ("choices", "train_argmax"),
    "segmenter-logits": ("choices", "train_logits"),
    "segmenter-early": ("choices", "train_early"),
    "segmenter-middle": ("choices", "train_middle"),
    "segmenter-early-mlp": ("choices", "train_early_mlp"),
    "segmenter-middle-mlp": ("choices", "train_middle_mlp"),
    "segmenter-argmax-mlp": ("choices", "train_argmax_mlp"),
    "colourisation": ("choices", "train_colourisation"),
    "inpainting": ("choices", "train_inpainting"),
    "edges-shape": ("choices", "train_edges_shape"),
    "edges-texture": ("choices", "train_edges_texture"),
    "shape-appearance": ("choices", "train_appearance"),
    "people-labels": ("domains", "train_labels"),
    "text-to-people": ("text", "train_text_to_people"),
    "text-to-biggan": ("text", "train_text_to_biggan"),
}
"""Checkpoint name → module of this package and function. The order is the one to train them in."""


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
    module, function = RECIPES[name]
    try:
        return getattr(import_module(f".{module}", __package__), function)(Job(current(profile), **options))
    except TrainingDone:
        return None
