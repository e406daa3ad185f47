"""Sets that are published as arrays rather than picture files: CIFAR, MNIST and its relatives.

CIFAR's own files are Python pickles, which can run code when opened; torchvision opens them only if their MD5 is that
of the published ones. MNIST's are plain bytes.
"""

from pathlib import Path

import torch
from torch import Tensor

from .file_set import check_memory, spread
from .image_set import ImageSet, resize, to_float
from .known_sets import open_torchvision

__all__ = ["ARRAY_SETS", "load_arrays"]

ARRAY_SETS = ("cifar10", "cifar100", "mnist", "kmnist", "fashionmnist")


def _folder(path: Path, *own: str) -> Path:
    """The folder above the set's own ones, wherever among them ``path`` points."""
    for name in reversed(own):
        path = path.parent if path.name == name else path
    return path


def _cifar(name: str, path: Path) -> tuple[Tensor, list[Tensor], list[str]]:
    from torchvision.datasets import CIFAR10, CIFAR100

    kind = CIFAR10 if name == "cifar10" else CIFAR100
    path = _folder(path, kind.base_folder)
    parts = [open_torchvision(name, path, lambda train=train: kind(path, train=train)) for train in (True, False)]
    images = torch.cat([torch.from_numpy(part.data) for part in parts]).permute(0, 3, 1, 2)
    return images, [torch.tensor(part.targets) for part in parts], parts[0].classes


def _mnist(name: str, path: Path) -> tuple[Tensor, list[Tensor], list[str]]:
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    kind = {"mnist": MNIST, "kmnist": KMNIST, "fashionmnist": FashionMNIST}[name]
    path = _folder(path, kind.__name__, "raw")
    parts = [open_torchvision(name, path, lambda train=train: kind(path, train=train)) for train in (True, False)]
    images = torch.cat([part.data for part in parts])[:, None].expand(-1, 3, -1, -1)
    # "3 - three" is called 3, as among the bundled digits.
    return images, [part.targets for part in parts], [name.partition(" - ")[0] for name in kind.classes]


def load_arrays(name: str, path: Path, size: int, max_images: int | None = None) -> ImageSet:
    """Opens a set of :data:`ARRAY_SETS`; grey pictures get three equal channels.

    Args:
        name: of the set.
        path: where its original files lie, unpacked.
        size: side of the pictures in pixels, to which they are resized.
        max_images: take at most so many, evenly spaced.

    Raises:
        CourseError: files missing or not the published ones, or too little memory.
    """
    stored, targets, classes = (_cifar if name.startswith("cifar") else _mnist)(name, path)
    label = torch.cat(targets)
    index = spread(len(label), max_images)
    check_memory(len(index), size, name)
    stored = stored[index].contiguous()
    images = stored if size == stored.shape[-1] else torch.empty(len(index), 3, size, size, dtype=torch.uint8)
    if images is not stored:
        for start in range(0, len(index), 1024):
            resized = resize(to_float(stored[start : start + 1024]), size)
            images[start : start + 1024] = resized.add(1).mul(127.5).round().to(torch.uint8)
    test = torch.arange(len(label)) >= len(targets[0])
    return ImageSet(
        name=name,
        images=images,
        labels={"class": label[index], "domain": torch.zeros(len(index), dtype=torch.int64)},
        classes={"class": list(classes), "domain": [name]},
        split=test[index] * 2,
    )
