"""Pictures of your own as a training set: opened, split and checked before anything trains on them.

Notebooks and recipes that take ``dataset=`` begin here, so that every complaint comes at once and is one sentence.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import CourseError
from .files import FileSet, find_folder
from .image_set import ImageSet, draw_tenths
from .published import check_dataset, load

# Without so many training pictures no recipe starts: the linear start of an autoencoder needs 42 at 64 pixels.
_FEWEST = 50


def check_size(dataset: str, size: int) -> None:
    """A CourseError unless networks for pictures of this side can be built, and the set has such pictures."""
    if size not in (64, 128):
        raise CourseError(f"size={size} is not possible: choose 64 or 128.")
    if dataset in ("people", "kinds") and size != 64:
        raise CourseError(f"{dataset} are drawn at 64 pixels: leave out size={size}.")


def own_pictures(dataset: str, size: int = 64, colour: bool = False) -> ImageSet:
    """A data set with parts train, val and test, or a CourseError that says why it cannot be trained on.

    Pictures of a folder that are smaller than ``size`` are left out, since enlarging would blur them. A part that the
    set lacks is taken from its training pictures, a tenth each.

    Args:
        dataset: as for :func:`course_lib.data.load`.
        size: 64 or 128; pictures are cropped to the centred square and resized.
        colour: whether colour is what is to be learnt; then a set of grey pictures is refused.
    """
    check_size(dataset, size)
    check_dataset(dataset)
    said = ""
    if dataset.startswith("folder:"):
        found = find_folder(dataset.removeprefix("folder:"))
        large = _large_enough(found, size)
        left_out = len(found) - len(large)
        said = large.summary() + (f"; {left_out} smaller than {size} px left out" if left_out else "")
        data = large.load(size)
    else:
        data = load(dataset, size)
    data = _with_all_parts(data)
    count = int((data.split == 0).sum())
    if count < _FEWEST:
        raise CourseError(f"{data.name!r} has {count} training pictures, at least {_FEWEST} are needed: add some.")
    some = data.images[:: max(1, len(data) // 100)].to(torch.int16)
    if colour and (some.amax(1) - some.amin(1)).float().mean() < 1.0:
        raise CourseError(
            f"the pictures of {data.name!r} have no colour, so colourisation has nothing to learn: take "
            "super-resolution or inpainting, or pictures in colour."
        )
    print(said, end="\n" if said else "")
    return data


def _large_enough(found: FileSet, size: int) -> FileSet:
    """Only files whose shortest side has ``size`` pixels or more, by their heads; a file without one stays for now."""

    def large(path: Path) -> bool:
        try:
            with Image.open(path) as file:
                return min(file.size) >= size
        except Exception:  # whoever decodes it says what is wrong, in one sentence
            return True

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        kept = torch.tensor(list(pool.map(large, found.images)))
    if not kept.any():
        raise CourseError(f"no picture of {found.name!r} has {size} pixels on its shortest side: take larger ones.")
    return found.subset(kept)


def _with_all_parts(data: ImageSet) -> ImageSet:
    """Missing parts of the split are drawn from the training pictures, with a fixed seed."""
    if not len(data.split):
        return data.random_split()
    split, missing = data.split.clone(), [part for part in (1, 2) if not (data.split == part).any()]
    draw_tenths(split, (split == 0).nonzero()[:, 0], torch.Generator().manual_seed(0), missing)
    return replace(data, split=split)


_STRIPS = {"temple": (245, 350), "flower": (345, 450)}  # first and last column of what is held out


def write_photographs(folder: Path, train: int = 400, test: int = 60) -> Path:
    """Two photographs, cut into a folder of JPEG files: what stands in for the reader's own pictures.

    They come with scikit-learn (CC BY 2.0): a temple by danielbuechele and a dahlia by vultilion, 640×427 pixels.
    ``train`` and ``test`` random squares of 96 to 192 pixels of each are stored at 128, test pictures from a strip that
    no training picture touches. The same files come out every time; what is there already stays.
    """
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    for name, pixels in zip(_STRIPS, load_sample_images().images, strict=True):
        photograph, (low, high) = Image.fromarray(pixels), _STRIPS[name]
        for part, count in (("train", train), ("test", test)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                path = folder / part / f"{name}-{number:03}.jpg"
                crop = photograph.crop(_box(random, photograph.size, low, high, part == "test"))
                if not path.exists():
                    crop.resize((128, 128), Image.Resampling.BICUBIC).save(path, quality=92)
    return folder


def _box(
    random: np.random.Generator, size: tuple[int, int], low: int, high: int, inside: bool
) -> tuple[int, int, int, int]:
    """A random square inside of the columns from ``low`` to ``high``, or one that does not touch them."""
    while True:
        side = int(random.integers(96, (high - low if inside else 192) + 1))
        left = int(random.integers(low, high - side + 1) if inside else random.integers(0, size[0] - side + 1))
        top = int(random.integers(0, size[1] - side + 1))
        if inside or left + side <= low or left >= high:
            return left, top, left + side, top + side
