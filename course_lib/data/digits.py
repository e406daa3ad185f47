"""Handwritten digits that come with a library: 1,797 of 8×8 pixels, enlarged to MNIST's 28."""

from functools import cache

import torch

from .image_set import ImageSet, resize

__all__ = ["load_digits"]


@cache
def load_digits(size: int = 28) -> ImageSet:
    """White digits on black, as grey pictures in three channels, label ``class``, random 80/10/10 split with seed 0.

    They are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998, UCI, CC BY 4.0) as
    scikit-learn carries it: 4-bit grey levels, so enlarged ones are smooth where MNIST's are sharp.

    Args:
        size: side in pixels.
    """
    from sklearn import datasets

    found = datasets.load_digits()
    small = torch.from_numpy(found.images).float() / 8 - 1
    images = resize(small[:, None].expand(-1, 3, -1, -1), size)
    label = torch.from_numpy(found.target).to(torch.int64)
    return ImageSet(
        "digits",
        images.add(1).mul(127.5).round().to(torch.uint8),
        {"class": label, "domain": torch.zeros_like(label)},
        {"class": [str(digit) for digit in range(10)], "domain": ["digits"]},
    ).random_split(0)
