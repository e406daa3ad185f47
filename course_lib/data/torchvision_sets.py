"""Well-known data sets from files that you fetched yourself: nothing is ever downloaded.

CelebA, Flowers102 and the sets of :mod:`course_lib.data.array_sets` are read through torchvision, the others are plain
picture files in the layout in which they are published. Official parts become ``train``, ``val`` and ``test``; none is
invented.
"""

import json
from pathlib import Path

import torch

from ..errors import CourseError
from .array_sets import ARRAY_SETS, load_arrays
from .file_set import FileSet
from .folders import existing_folder, find_folder
from .image_set import ImageSet
from .known_sets import SETS, SOURCES, missing, open_torchvision

__all__ = ["SETS", "SOURCES", "find_files", "load_torchvision"]


def _one_class(name: str, files: list[Path], **others: object) -> FileSet:
    zeros = torch.zeros(len(files), dtype=torch.int64)
    return FileSet(name, files, {"class": zeros, "domain": zeros}, {"class": [name], "domain": [name]}, **others)


def _celeba(path: Path) -> FileSet:
    """Labels are the 40 attributes, ``no`` or ``yes``. Of the 178×218 pictures the centred 160 px square is taken."""
    from torchvision.datasets import CelebA

    path = path.parent if path.name == CelebA.base_folder else path
    data = open_torchvision("celeba", path, lambda: CelebA(path, split="all"))
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
        listing = open_torchvision("flowers102", path, lambda part=part: list(Flowers102(path, part, loader=Path)))
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
        raise missing(name, path)
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
        raise missing(name, path)
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
        return load_arrays(name, existing_folder(path), size, max_images)
    return find_files(name, path).load(size, max_images)
