"""Data sets: bundled avatars, folders of images, and the torchvision sets. Start with :func:`load`."""

from .avatars import KINDS, NEW_KINDS, OLD_KINDS, fresh_kinds, fresh_people, load_kinds, load_people, people_parts
from .image_set import ImageSet, concatenate, few_per_class, few_training_pictures, regroup, resize, to_float
from .own import own_pictures, write_photographs
from .published import check_dataset, load, source_classes, target_classes

__all__ = ["KINDS", "NEW_KINDS", "OLD_KINDS", "ImageSet", "check_dataset", "concatenate", "few_per_class"]
__all__ += ["few_training_pictures", "fresh_kinds", "fresh_people", "load", "load_kinds", "load_people"]
__all__ += ["own_pictures", "people_parts", "regroup", "resize", "source_classes", "target_classes", "to_float"]
__all__ += ["write_photographs"]
