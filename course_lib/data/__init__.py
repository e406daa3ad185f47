"""Data sets: the bundled emoji, folders of images, and the torchvision sets. Start with :func:`load`."""

from .emoji import check_files, load_emoji
from .few_shot import TRANSFER_CLASSES, few_per_class, regroup, transfer_classes
from .file_set import FileSet
from .image_set import ImageSet, concatenate, resize, to_float
from .registry import find, load
from .splits import NEW_SUBGROUPS

__all__ = [
    "NEW_SUBGROUPS",
    "TRANSFER_CLASSES",
    "FileSet",
    "ImageSet",
    "check_files",
    "concatenate",
    "few_per_class",
    "find",
    "load",
    "load_emoji",
    "regroup",
    "resize",
    "to_float",
    "transfer_classes",
]
