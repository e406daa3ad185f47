"""Data sets: the bundled emoji, folders of images, and the torchvision sets. Start with :func:`load`."""

from .emoji import check_files, load_emoji
from .file_set import FileSet
from .image_set import ImageSet, concatenate, resize, to_float
from .registry import find, load
from .splits import NEW_SUBGROUPS

__all__ = [
    "NEW_SUBGROUPS",
    "FileSet",
    "ImageSet",
    "check_files",
    "concatenate",
    "find",
    "load",
    "load_emoji",
    "resize",
    "to_float",
]
