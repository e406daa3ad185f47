"""Data sets: the bundled emoji, folders of images, and the torchvision sets. Start with :func:`load`."""

from .emoji import check_files, load_emoji
from .image_set import ImageSet, concatenate, resize, to_float
from .registry import load

__all__ = ["ImageSet", "check_files", "concatenate", "load", "load_emoji", "resize", "to_float"]
