"""Data sets: bundled avatars, folders of images, and the torchvision sets. Start with :func:`load`."""

import lazy_loader

_NAMES = {
    "avatars": "KINDS NEW_KINDS OLD_KINDS fresh_kinds fresh_people kind_classes load_kinds load_people people_parts",
    "image_set": "ImageSet concatenate few_per_class few_training_pictures regroup resize to_float",
    "published": "check_dataset load own_pictures target_classes write_photographs",
}
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={k: v.split() for k, v in _NAMES.items()})
