"""How every shipped checkpoint is trained: ``make train NAME=…`` or ``course train NAME``."""

from importlib import import_module
from typing import Any

from ..errors import CourseError
from ..profiles import current, seed_everything
from .recipe import Job

_FLOWS = ("superresolution-8", "superresolution-16", "segmenter-argmax", "segmenter-logits", "segmenter-early")
_FLOWS += ("segmenter-middle", "colourisation", "inpainting", "edges-shape", "edges-texture", "shape-appearance")
GENERATORS = ("avatar-stylegan", "avatar-biggan", "avatar-alae")
_MINDGANS = ("", "-style", "-far")
_BASELINES = ("superresolution-8", "segmenter-early", "segmenter-middle", "segmenter-argmax")

RECIPES = {
    "avatar-classifier": ("experts", "train_heads", "avatar-classifier"),
    "avatar-judge": ("experts", "train_heads", "avatar-judge"),
    "avatar-autoencoder": ("experts", "train_autoencoder"),
    "avatar-segmenter": ("experts", "train_segmenter"),
    "classifier-shape": ("experts", "train_biased", "classifier-shape"),
    "classifier-texture": ("experts", "train_biased", "classifier-texture"),
    **{name: ("generators", f"train_{name.removeprefix('avatar-')}") for name in GENERATORS},
    **{name: ("translators", "train_translator", name) for name in _FLOWS},
    **{f"{name}-mlp": ("translators", "train_translator", name, True) for name in _BASELINES},
    "layer-comparison": ("translators", "train_layers"),
    "people-labels": ("labels_text", "train_labels"),
    "text-to-people": ("labels_text", "train_text_to_people"),
    "text-to-biggan": ("labels_text", "train_text_to_biggan"),
    "avatar-biggan-codes": ("generators", "train_codes"),
    "avatar-bn-transfer": ("bn_transfer", "train_transfer"),
    "avatar-bn-transfer-comparison": ("bn_transfer", "train_bn_transfer_comparison"),
    "avatar-hypermod": ("hypermod", "train_hypermod"),
    "avatar-hypermod-comparison": ("hypermod", "train_hypermod_comparison"),
    **{f"avatar-mind2mind{which}": ("mind2mind", "train_mindgan", f"avatar-mind2mind{which}") for which in _MINDGANS},
    "avatar-mind2mind-comparison": ("mind2mind", "train_mind2mind_comparison"),
    "which-method": ("which_method", "train_which_method"),
}
"""Checkpoint name → module of this package, function, and what it is called with. In the order to train them in."""


def train(name: str, profile: str | None = None, **options: Any) -> Any:
    """Trains the checkpoint called ``name``, a key of :data:`RECIPES`, and publishes it if it beats the shipped one.
    Options are fields of :class:`course_lib.recipes.recipe.Job`, errors those of :func:`check`. Returns the card."""
    job = Job(current(profile), **options)
    check(name, job)
    module, function, *arguments = ("own", "train_own", name) if job.dataset else RECIPES[name]
    seed_everything(job.seed)
    return getattr(import_module(f".{module}", __package__), function)(job, *arguments)


def check(name: str, job: Job) -> None:
    """Before a run starts: a CourseError where there is no such recipe, or ``dataset`` and ``size`` do not fit."""
    if name not in RECIPES:
        raise CourseError(f"there is no recipe {name!r}: choose one of {', '.join(RECIPES)}.")
    if job.space not in ("latents", "pixels"):
        raise CourseError(f"a generator draws latents or pixels: space= is one of them, not {job.space!r}.")
    if job.space == "pixels" and name not in GENERATORS:
        raise CourseError(f"{name} does not train a generator; space=pixels is for {', '.join(GENERATORS)}.")
    if job.dataset or job.size != 64:
        from .own import check_own

        check_own(job, name)
