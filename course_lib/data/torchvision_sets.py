"""Well-known data sets by name, from files that you fetched yourself: nothing is ever downloaded.

CelebA, Flowers102, CIFAR, MNIST and its relatives are read through torchvision, the others are plain picture files in
the layout in which they are published. Official parts become ``train``, ``val`` and ``test``; none is invented. CIFAR's
own files are Python pickles, which can run code when opened; torchvision opens them only if their MD5 is that of the
published ones.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CourseError
from .file_set import FileSet, check_memory, spread
from .folders import existing_folder, find_folder
from .image_set import ImageSet, resize, to_float

__all__ = ["ARRAY_SETS", "SETS", "SOURCES", "find_files", "load_torchvision"]

SETS = {
    "cifar10": "60,000 pictures of 10 kinds of things, 32 px; train and test",
    "cifar100": "60,000 pictures of 100 kinds of things, 32 px; train and test",
    "mnist": "70,000 handwritten digits, 28 px, grey; train and test",
    "kmnist": "70,000 cursive Japanese characters of 10 kinds, 28 px, grey; train and test",
    "fashionmnist": "70,000 pieces of clothing of 10 kinds, 28 px, grey; train and test",
    "celeba": "202,599 aligned faces with 40 yes/no attributes; train, val and test",
    "flowers102": "8,189 flowers of 102 species; train, val and test",
    "ffhq": "70,000 aligned faces; the first 60,000 train, the others val",
    "afhq": "some 16,000 faces of cats, dogs and wild animals; train and val or test",
    "celebahq": "30,000 faces as .npy arrays at 1024 px; no fixed split",
    "places365": "1.8 million scenes of 365 kinds; train and val",
    "coco": "some 123,000 everyday scenes with five captions each; train and val",
}
_IDX = "raw/train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
SOURCES = {
    "cifar10": ("cifar-10-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html", "cifar-10-batches-py/"),
    "cifar100": ("cifar-100-python.tar.gz from www.cs.toronto.edu/~kriz/cifar.html", "cifar-100-python/"),
    "mnist": ("the four idx-ubyte.gz files from ossci-datasets.s3.amazonaws.com/mnist", f"MNIST/{_IDX}"),
    "kmnist": ("the four idx-ubyte.gz files from github.com/rois-codh/kmnist", f"KMNIST/{_IDX}"),
    "fashionmnist": (
        "the four idx-ubyte.gz files from github.com/zalandoresearch/fashion-mnist",
        f"FashionMNIST/{_IDX}",
    ),
    "celeba": (
        "img_align_celeba.zip, four list_*.txt and identity_CelebA.txt from mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "celeba/img_align_celeba/*.jpg and celeba/*.txt",
    ),
    "flowers102": (
        "102flowers.tgz, imagelabels.mat and setid.mat from www.robots.ox.ac.uk/~vgg/data/flowers/102",
        "flowers-102/jpg/*.jpg, flowers-102/imagelabels.mat and flowers-102/setid.mat",
    ),
    "ffhq": ("thumbnails128x128 or images1024x1024 from github.com/NVlabs/ffhq-dataset", "00000.png … 69999.png"),
    "afhq": (
        "afhq.zip or afhq_v2.zip from github.com/clovaai/stargan-v2",
        "train/cat/*, train/dog/*, train/wild/* and val/*",
    ),
    "celebahq": (
        "the .npy files that github.com/tkarras/progressive_growing_of_gans describes (section CelebA-HQ)",
        "imgHQ00000.npy … imgHQ29999.npy",
    ),
    "places365": (
        "places365standard_easyformat.tar from places2.csail.mit.edu/download.html",
        "train/airfield/*.jpg … and val/airfield/*.jpg …",
    ),
    "coco": (
        "train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org/#download",
        "annotations/captions_val2017.json with val2017/*.jpg (and the same for train2017)",
    ),
}
"""What to fetch, and what has to lie under the given folder afterwards."""


def _missing(name: str, path: Path, why: str = "was not found") -> CourseError:
    """The error that says where to get a set."""
    source, layout = SOURCES[name]
    return CourseError(f"{name} {why} under {path}: fetch {source} and unpack it so that {path} has {layout}.")


def _open_torchvision(name: str, path: Path, opened: Callable[[], object]) -> object:
    """Opens a torchvision set; its own error would advise a download that this course never does.

    Raises:
        CourseError: files are missing, or are not what torchvision expects.
    """
    try:
        return opened()
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        raise _missing(name, path, "is missing or differs from the published files (MD5)") from error


# --- sets that are published as arrays --------------------------------------------------------------------------------

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
    parts = [_open_torchvision(name, path, lambda train=train: kind(path, train=train)) for train in (True, False)]
    images = torch.cat([torch.from_numpy(part.data) for part in parts]).permute(0, 3, 1, 2)
    return images, [torch.tensor(part.targets) for part in parts], parts[0].classes


def _mnist(name: str, path: Path) -> tuple[Tensor, list[Tensor], list[str]]:
    from torchvision.datasets import KMNIST, MNIST, FashionMNIST

    kind = {"mnist": MNIST, "kmnist": KMNIST, "fashionmnist": FashionMNIST}[name]
    path = _folder(path, kind.__name__, "raw")
    parts = [_open_torchvision(name, path, lambda train=train: kind(path, train=train)) for train in (True, False)]
    images = torch.cat([part.data for part in parts])[:, None].expand(-1, 3, -1, -1)
    # "3 - three" is called 3, as among the bundled digits.
    return images, [part.targets for part in parts], [name.partition(" - ")[0] for name in kind.classes]


def _load_arrays(name: str, path: Path, size: int, max_images: int | None = None) -> ImageSet:
    """A set of :data:`ARRAY_SETS`; grey pictures get three equal channels."""
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


# --- sets that are published as picture files -------------------------------------------------------------------------


def _one_class(name: str, files: list[Path], **others: object) -> FileSet:
    zeros = torch.zeros(len(files), dtype=torch.int64)
    return FileSet(name, files, {"class": zeros, "domain": zeros}, {"class": [name], "domain": [name]}, **others)


def _celeba(path: Path) -> FileSet:
    """Labels are the 40 attributes, ``no`` or ``yes``. Of the 178×218 pictures the centred 160 px square is taken."""
    from torchvision.datasets import CelebA

    path = path.parent if path.name == CelebA.base_folder else path
    data = _open_torchvision("celeba", path, lambda: CelebA(path, split="all"))
    folder = path / CelebA.base_folder
    lines = (folder / "list_eval_partition.txt").read_text().splitlines()
    partition = dict(line.split() for line in lines if line.strip())
    faces = _one_class(
        "celeba",
        [folder / "img_align_celeba" / file for file in data.filename],
        split=torch.tensor([int(partition[file]) for file in data.filename]),
        crop=160,
    )
    # The header line ends with a space, which torchvision reads as a 41st, nameless attribute.
    for k, attribute in enumerate(filter(None, data.attr_names)):
        faces.labels[attribute], faces.classes[attribute] = data.attr[:, k].contiguous(), ["no", "yes"]
    return faces


def _flowers102(path: Path) -> FileSet:
    from torchvision.datasets import Flowers102

    path = path.parent if path.name == "flowers-102" else path
    files, label, split = [], [], []
    for k, part in enumerate(("train", "val", "test")):
        # With Path as its loader the set yields file names, not pictures.
        listing = _open_torchvision("flowers102", path, lambda part=part: list(Flowers102(path, part, loader=Path)))
        for file, species in listing:
            files.append(file)
            label.append(species)
            split.append(k)
    flowers = _one_class("flowers102", files, split=torch.tensor(split))
    flowers.labels["class"], flowers.classes["class"] = torch.tensor(label), list(Flowers102.classes)
    return flowers


def _ffhq(path: Path) -> FileSet:
    """Flat, or in sub-folders of a thousand. The number in the name decides about the split."""
    files = sorted((file for file in path.rglob("*.png") if file.stem.isdigit()), key=lambda file: file.stem)
    return _one_class("ffhq", files, split=torch.tensor([int(int(file.stem) >= 60_000) for file in files]))


def _celebahq(path: Path) -> FileSet:
    return _one_class("celebahq", sorted(path.glob("imgHQ*.npy")))


def _classes(name: str, path: Path) -> FileSet:
    """AFHQ and Places365: ``train/CLASS/…`` and ``val/CLASS/…``."""
    if not (path / "train").is_dir() and not (path / "val").is_dir():
        raise _missing(name, path)
    return find_folder(path, name)


def _coco(path: Path) -> FileSet:
    """Every picture with all its captions; a part of ``annotations/`` counts if the folder of its pictures is there."""
    files, captions, split = [], [], []
    for k, part in enumerate(("train", "val")):
        for table in sorted((path / "annotations").glob(f"captions_{part}*.json"))[-1:]:
            folder = path / table.stem.removeprefix("captions_")
            if not folder.is_dir():
                continue
            try:
                content = json.loads(table.read_text(encoding="utf-8"))
                texts: dict[int, list[str]] = {}
                for row in sorted(content["annotations"], key=lambda row: row["id"]):
                    texts.setdefault(row["image_id"], []).append(" ".join(row["caption"].split()))
                images = sorted((row for row in content["images"] if row["id"] in texts), key=lambda row: row["id"])
                files += [folder / row["file_name"] for row in images]
                captions += [texts[row["id"]] for row in images]
            except (ValueError, KeyError, TypeError) as error:
                raise CourseError(f"{table} is not a COCO caption file ({error!r}): unpack it again.") from error
            split += [k] * len(images)
    return _one_class("coco", files, captions=captions, split=torch.tensor(split, dtype=torch.int64))


def find_files(name: str, path: Path | str) -> FileSet:
    """Lists a set of :data:`SETS` without opening its pictures: ``.load(size)`` it, or ``.stream(…)`` it.

    Raises:
        CourseError: the set is not (completely) there; or it is stored as one array, as CIFAR and MNIST are.
    """
    path = existing_folder(path)
    if name in ARRAY_SETS:
        raise CourseError(f"{name} has no picture files to stream: it fits into memory, so `load` it.")
    readers = {"celeba": _celeba, "flowers102": _flowers102, "ffhq": _ffhq, "celebahq": _celebahq, "coco": _coco}
    if name in ("afhq", "places365"):
        found = _classes(name, path)
    elif name in readers:
        found = readers[name](path)
    else:
        raise CourseError(f"there is no set {name!r}: choose one of {', '.join(SETS)}.")
    if not len(found):
        raise _missing(name, path)
    return found


def load_torchvision(name: str, path: Path | str, size: int, max_images: int | None = None) -> ImageSet:
    """Opens a set of :data:`SETS` from the folder ``path``, decoded to ``size`` pixels.

    Every set has the labels ``class`` and ``domain`` (one value each where the set knows no classes); CelebA also has
    its 40 attributes, COCO has captions.

    Args:
        name: a key of :data:`SETS`.
        path: where its original files lie, unpacked.
        size: side of the square images in pixels.
        max_images: take at most so many, evenly spaced; every image costs ``3 · size²`` bytes of memory.

    Raises:
        CourseError: unknown name, files missing or not the published ones, a damaged picture, or too little memory.
    """
    if name in ARRAY_SETS:
        return _load_arrays(name, existing_folder(path), size, max_images)
    return find_files(name, path).load(size, max_images)
