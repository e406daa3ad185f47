"""Every data set by its name: :func:`load`. Well-known sets come from files that you fetched yourself.

CelebA, Flowers102, CIFAR, MNIST and its relatives are read through torchvision, which opens CIFAR's pickles only if
their MD5 is that of the published ones; the others are plain picture files in the layout in which they are published.
Official parts become ``train``, ``val`` and ``test``; none is invented. Nothing is ever downloaded here. Notebooks and
recipes that take ``dataset=`` begin at :func:`own_pictures`, so that every complaint about one's own pictures comes at
once and is one sentence."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import CourseError
from ..fetch import DOWNLOADS
from .avatars import NEW_KINDS, load_kinds, load_people
from .files import FileSet, check_room, existing_folder, find_folder, load_folder
from .image_set import SPLITS, ImageSet, evenly_spaced, few_training_pictures, regroup, resize, to_float, to_uint8

_IDX = "raw/train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
LAYOUTS = {
    "cifar10": "cifar-10-batches-py/",
    "cifar100": "cifar-100-python/",
    "mnist": f"MNIST/{_IDX}",
    "kmnist": f"KMNIST/{_IDX}",
    "fashionmnist": f"FashionMNIST/{_IDX}",
    "celeba": "celeba/img_align_celeba/*.jpg and celeba/*.txt",
    "flowers102": "flowers-102/jpg/*.jpg, flowers-102/imagelabels.mat and flowers-102/setid.mat",
    "ffhq": "00000.png … 69999.png",
    "afhq": "train/cat/*, train/dog/*, train/wild/* and val/*",
    "celebahq": "imgHQ00000.npy … imgHQ29999.npy",
    "places365": "train/airfield/*.jpg … and val/airfield/*.jpg …",
    "coco": "annotations/captions_val2017.json with val2017/*.jpg (and the same for train2017)",
}
"""Name of a set, as in ``course fetch`` → what has to lie under the given folder."""

# --- by name ----------------------------------------


def load(dataset: str = "people", size: int = 64, max_images: int | None = None) -> ImageSet:
    """Opens a data set by name; the parameter ``dataset`` of a notebook that has one ends here.

    Every set has the labels ``class`` and ``domain`` (one value each where it knows no classes); CelebA also has its 40
    attributes, COCO has captions.

    Args:
        dataset: ``people``, ``kinds`` or ``digits``; ``folder:PATH`` (one sub-folder per class or domain);
            ``NAME:PATH`` with a set of :data:`LAYOUTS` whose original files lie, unpacked, under ``PATH``.
        size: side of the square images in pixels. Bundled avatars have 64; other sets are resized on loading.
        max_images: at most so many, evenly spaced, of sets from files. Every image costs ``3 · size²`` bytes.
    """
    return _opener(dataset, size, max_images)()


def check_dataset(dataset: str) -> None:
    """A CourseError unless :func:`load` knows the name and finds the files in their layout; no picture is opened."""
    _opener(dataset)


def _opener(dataset: str, size: int = 64, max_images: int | None = None) -> Callable[[], ImageSet]:
    """What decodes a data set, after its files were found."""
    bundled = {"people": load_people, "kinds": load_kinds, "digits": lambda: load_digits(size)}
    if dataset in bundled:
        return bundled[dataset]
    name, _, path = dataset.partition(":")
    if not path or name not in ("folder", *LAYOUTS):
        known = "or one of " + ", ".join(f"{name}:PATH" for name in LAYOUTS)
        raise CourseError(f"there is no data set {dataset!r}: use people, kinds, digits, folder:PATH, {known}.")
    folder = existing_folder(path)
    if name in _ARRAYS:
        return lambda: _load_arrays(name, folder, size, max_images)
    if name == "folder":
        found = find_folder(path)
        return lambda: load_folder(found, size, max_images)
    found = _FILES[name](folder)
    if not len(found):
        raise _missing(name, folder)
    return lambda: found.load(size, max_images)


def _missing(name: str, path: Path, why: str = "was not found") -> CourseError:
    """The error that says where to get a set."""
    source = DOWNLOADS[name]
    files = ", ".join(Path(file.name).name for file in source.files)
    how = f"`course fetch {name}` " + (f"gets {files}" if files else "says how to get it")
    return CourseError(f"{name} {why} under {path}, which must have {LAYOUTS[name]}: {how}, from {source.page}.")


def _open_torchvision(name: str, path: Path, opened: Callable[[], object]) -> object:
    """Opens a torchvision set, whose own error would advise a download."""
    try:
        return opened()
    except (RuntimeError, OSError, ValueError, TypeError, AssertionError) as error:
        raise _missing(name, path, "is missing or differs from the published files (MD5)") from error


def _above(path: Path, *own: str) -> Path:
    """The folder above the set's own ones, wherever among them ``path`` points."""
    for name in reversed(own):
        path = path.parent if path.name == name else path
    return path


# --- the classes of a transfer ----------------------------------------


def target_classes(
    dataset: str = "kinds", names: Sequence[str] = (), per_class: int | None = None, seed: int = 0, size: int = 64
) -> ImageSet:
    """The classes that a transfer learns, with ``labels["class"]`` from 0, in parts ``train``, ``val`` and ``test``.

    ``dataset`` is ``kinds``, or a set of :func:`load` with the label ``class``; ``names`` are the classes to take, by
    default :data:`course_lib.data.NEW_KINDS`, or all of another set; ``per_class`` is how many training pictures at
    most, None for all; ``seed`` that of this choice, and of the split where the set has none; ``size`` as in ``load``.
    """
    data = load(dataset, size)
    if "class" not in data.labels:
        raise CourseError(f"{data.name!r} has no label 'class': give folder:PATH with one folder per class.")
    wanted = list(names) or (NEW_KINDS if dataset == "kinds" else data.classes["class"])
    data = regroup(data, {name: (name,) for name in wanted}, "class")
    if not len(data.split):
        data = data.random_split(seed, "class")
    present = data.labels["class"][data.split == 0].bincount(minlength=len(wanted))
    if (present == 0).any():
        name = wanted[int((present == 0).nonzero()[0])]
        raise CourseError(f"the class {name!r} has no training picture: add some, or leave the class out.")
    return few_training_pictures(data, per_class, seed)


# --- sets that are published as arrays ----------------------------------------


@cache
def load_digits(size: int = 28) -> ImageSet:
    """White digits on black, 1,797 of 8×8 pixels in 4-bit grey, enlarged to ``size``; label ``class``, random split
    with seed 0: the test part of Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", 1998, CC BY 4.0."""
    from sklearn import datasets

    found = datasets.load_digits()
    small = torch.from_numpy(found.images).float() / 8 - 1
    images = to_uint8(resize(small[:, None].expand(-1, 3, -1, -1), size))
    label = torch.from_numpy(found.target).to(torch.int64)
    labels = {"class": label, "domain": torch.zeros_like(label)}
    classes = {"class": [str(digit) for digit in range(10)], "domain": ["digits"]}
    return ImageSet("digits", images, labels, classes).random_split(0)


_ARRAYS = {name.lower(): name for name in ("CIFAR10", "CIFAR100", "MNIST", "KMNIST", "FashionMNIST")}
"""Set of arrays → its class in torchvision."""


def _load_arrays(name: str, path: Path, size: int, max_images: int | None) -> ImageSet:
    from torchvision import datasets

    kind = getattr(datasets, _ARRAYS[name])
    path = _above(path, *([kind.base_folder] if name.startswith("cifar") else [kind.__name__, "raw"]))
    train, test = (_open_torchvision(name, path, lambda own=own: kind(path, train=own)) for own in (True, False))
    label = torch.cat([torch.as_tensor(part.targets) for part in (train, test)])
    index = evenly_spaced(len(label), max_images)
    check_room(len(index), size, name)
    stored = torch.cat([torch.as_tensor(part.data) for part in (train, test)])
    # Grey pictures get three equal channels.
    stored = stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored[:, None].expand(-1, 3, -1, -1)
    images = torch.empty(len(index), 3, size, size, dtype=torch.uint8)
    for rows, place in zip(index.split(1024), images.split(1024), strict=True):
        part = stored[rows]
        place.copy_(part if size == part.shape[-1] else to_uint8(resize(to_float(part), size)))
    labels = {"class": label[index], "domain": torch.zeros_like(index)}
    # MNIST's "3 - three" is called 3, as among the bundled digits.
    classes = {"class": [one.partition(" - ")[0] for one in train.classes], "domain": [name]}
    return ImageSet(name, images, labels, classes, split=2 * (index >= len(train.targets)))


# --- sets that are published as picture files ----------------------------------------


def _one_class(name: str, files: list[Path], **others: object) -> FileSet:
    zeros = torch.zeros(len(files), dtype=torch.int64)
    return FileSet(name, files, {"class": zeros, "domain": zeros}, {"class": [name], "domain": [name]}, **others)


def _celeba(path: Path) -> FileSet:
    """Labels are the 40 attributes, ``no`` or ``yes``. Of the 178×218 pictures the centred 160 px square is taken."""
    from torchvision.datasets import CelebA

    path = _above(path, CelebA.base_folder)
    data = _open_torchvision("celeba", path, lambda: CelebA(path, split="all"))
    folder = path / CelebA.base_folder
    partition = dict(map(str.split, (folder / "list_eval_partition.txt").read_text().strip().splitlines()))
    files = [folder / "img_align_celeba" / file for file in data.filename]
    split = torch.tensor([int(partition[file]) for file in data.filename])
    faces = _one_class("celeba", files, split=split, crop=160)
    # The header line ends with a space, which torchvision reads as a 41st, nameless attribute.
    for k, attribute in enumerate(filter(None, data.attr_names)):
        faces.labels[attribute], faces.classes[attribute] = data.attr[:, k].contiguous(), ["no", "yes"]
    return faces


def _flowers102(path: Path) -> FileSet:
    from torchvision.datasets import Flowers102

    path = _above(path, "flowers-102")
    rows = []
    for k, part in enumerate(SPLITS):
        # With Path as its loader the set yields file names, not pictures.
        found = _open_torchvision("flowers102", path, lambda part=part: list(Flowers102(path, part, loader=Path)))
        rows += [(file, species, k) for file, species in found]
    files, species, split = zip(*rows, strict=True)
    flowers = _one_class("flowers102", list(files), split=torch.tensor(split))
    flowers.labels["class"], flowers.classes["class"] = torch.tensor(species), list(Flowers102.classes)
    return flowers


def _ffhq(path: Path) -> FileSet:
    """Flat, or in sub-folders of a thousand. The number in the name decides about the split."""
    files = sorted((file for file in path.rglob("*.png") if file.stem.isdigit()), key=lambda file: file.stem)
    return _one_class("ffhq", files, split=torch.tensor([int(int(file.stem) >= 60_000) for file in files]))


def _classes(name: str, path: Path) -> FileSet:
    """``train/CLASS/…`` and ``val/CLASS/…``."""
    return find_folder(path, name) if (path / "train").is_dir() or (path / "val").is_dir() else FileSet(name, [])


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


_FILES: dict[str, Callable[[Path], FileSet]] = {
    "celeba": _celeba,
    "flowers102": _flowers102,
    "ffhq": _ffhq,
    "celebahq": lambda path: _one_class("celebahq", sorted(path.glob("imgHQ*.npy"))),
    "afhq": partial(_classes, "afhq"),
    "places365": partial(_classes, "places365"),
    "coco": _coco,
}


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

    ``dataset`` is as for :func:`load`, ``size`` 64 or 128; pictures of a folder that are smaller are left out, since
    enlarging would blur them. A part that the set lacks is taken from its training pictures, a tenth each. ``colour``
    says whether colour is what is to be learnt; then a set of grey pictures is refused."""
    check_size(dataset, size)
    check_dataset(dataset)
    said = ""
    if dataset.startswith("folder:"):
        found = find_folder(dataset.removeprefix("folder:"))
        large = _large_enough(found, size)
        left_out = f"; {len(found) - len(large)} smaller than {size} px left out" if len(large) < len(found) else ""
        said, data = large.summary() + left_out + "\n", large.load(size)
    else:
        data = load(dataset, size)
    data = data.with_all_parts()
    count = int((data.split == 0).sum())
    if count < _FEWEST:
        raise CourseError(f"{data.name!r} has {count} training pictures, at least {_FEWEST} are needed: add some.")
    some = data.images[:: max(1, len(data) // 100)].to(torch.int16)
    if colour and (some.amax(1) - some.amin(1)).float().mean() < 1.0:
        text = f"the pictures of {data.name!r} have no colour, so colourisation has nothing to learn: take "
        raise CourseError(text + "super-resolution or inpainting, or pictures in colour.")
    print(said, end="")
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


_STRIPS = {"temple": (245, 350), "flower": (345, 450)}  # first and last column of what is held out


def write_photographs(folder: Path, train: int = 400, test: int = 60) -> Path:
    """Two photographs, cut into a folder of JPEG files: what stands in for the reader's own pictures.

    They come with scikit-learn (CC BY 2.0): a temple by danielbuechele and a dahlia by vultilion, 640×427 pixels.
    ``train`` and ``test`` random squares of 96 to 192 pixels of each are stored at 128, test pictures from a strip that
    no training picture touches. The same files come out every time; what is there already stays."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(0)
    for name, pixels in zip(_STRIPS, load_sample_images().images, strict=True):
        photograph = Image.fromarray(pixels)
        for part, count in (("train", train), ("test", test)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                path = folder / part / f"{name}-{number:03}.jpg"
                crop = photograph.crop(_box(random, photograph.size, _STRIPS[name], part == "test"))
                if not path.exists():
                    crop.resize((128, 128), Image.Resampling.BICUBIC).save(path, quality=92)
    return folder


def _box(random: np.random.Generator, size: tuple[int, int], strip: tuple[int, int], inside: bool) -> tuple[int, ...]:
    """A random square inside of the columns of the strip, or one that does not touch them."""
    low, high = strip
    while True:
        side = int(random.integers(96, (high - low if inside else 192) + 1))
        left = int(random.integers(low, high - side + 1) if inside else random.integers(0, size[0] - side + 1))
        top = int(random.integers(0, size[1] - side + 1))
        if inside or left + side <= low or left >= high:
            return left, top, left + side, top + side
