"""Data sets: bundled avatars, folders of images, and the torchvision sets. Start with :func:`load`."""

from .avatars import KINDS, NEW_KINDS, OLD_KINDS, fresh_kinds, fresh_people, load_kinds, load_people, people_parts
from .image_set import ImageSet, concatenate, few_per_class, few_training_pictures, regroup, resize, to_float
from .published import check_dataset, load, source_classes, target_classes

__all__ = ["KINDS", "NEW_KINDS", "OLD_KINDS", "ImageSet", "check_dataset", "concatenate", "few_per_class"]
__all__ += ["few_training_pictures", "fresh_kinds", "fresh_people", "load", "load_kinds", "load_people", "people_parts"]
__all__ += ["regroup", "resize", "source_classes", "target_classes", "to_float"]
