"""Data sets: bundled avatars, folders of images, and the torchvision sets. Start with :func:`load`."""

from .avatars import KINDS, NEW_KINDS, OLD_KINDS, fresh_kinds, fresh_people, load_kinds, load_people, people_parts
from .few_shot import few_per_class, few_training_pictures, regroup, source_classes, target_classes
from .file_set import FileSet
from .image_set import ImageSet, concatenate, resize, to_float
from .registry import check_dataset, find, load

__all__ = [
    "KINDS",
    "NEW_KINDS",
    "OLD_KINDS",
    "FileSet",
    "ImageSet",
    "check_dataset",
    "concatenate",
    "few_per_class",
    "few_training_pictures",
    "find",
    "fresh_kinds",
    "fresh_people",
    "load",
    "load_kinds",
    "load_people",
    "people_parts",
    "regroup",
    "resize",
    "source_classes",
    "target_classes",
    "to_float",
]
