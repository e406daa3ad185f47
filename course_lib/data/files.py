"""Picture files: one decoder, sets that still lie in files, and your own folders, whose layout is found or refused.

A :class:`FileSet` lists pictures without opening them; :meth:`FileSet.load` decodes them into an ``ImageSet``."""

import io
import os
import re
import unicodedata
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import CourseError, progress_bar
from .image_set import SPLITS, ImageSet, evenly_spaced

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".ico", ".npy"),
)
"""Endings of picture files, in lower case. What a file holds is seen from its content alone."""
_PNG_START = b"\x89PNG\r\n\x1a\n"

# Pillow warns about metadata, which decides nothing here; what it cannot decode it raises.
warnings.filterwarnings("ignore", module=r"PIL\.")

# --- from a file to pixels ----------------------------------------


def _from_array(path: Path) -> Image.Image:
    """Picture from a ``.npy`` file: ``uint8``, ``(1, 3, H, W)`` as in CelebA-HQ, ``(3, H, W)`` or ``(H, W, 3)``."""
    stored = np.load(path, allow_pickle=False)
    array = stored[0] if stored.ndim == 4 and len(stored) == 1 else stored
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[-1] != 3:
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(f"an array {stored.dtype} {stored.shape} instead of uint8 (1, 3, H, W)")
    return Image.fromarray(np.ascontiguousarray(array))


def _decoded(path: Path) -> Image.Image:
    """The first frame as 8-bit RGB: upright, transparency laid on white."""
    try:
        return _as_rgb(path)
    except (OSError, SyntaxError, ValueError) as error:
        # Not the system's error but the decoder's: in a PNG it may be about metadata.
        if getattr(error, "errno", None) is None and (content := path.read_bytes()).startswith(_PNG_START):
            return _as_rgb(io.BytesIO(_pixels_of_png(content)))
        raise


def _pixels_of_png(content: bytes) -> bytes:
    """The file without text, time and colour profile, whose damage says nothing of the pixels."""
    kept, place = [_PNG_START], len(_PNG_START)
    while place + 8 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _as_rgb(source: Path | io.BytesIO) -> Image.Image:
    with Image.open(source) as image:
        # How the file packs its samples, as Pillow calls it.
        arguments, form, tags = image.tile[0].args if image.tile else "", image.format, getattr(image, "tag_v2", {})
        layout = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
        image.load()
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # A damaged tag says nothing; what the parser raises differs with the damage.
            image = image.copy()
    key = image.info.get("transparency")
    # The transparent colour stands in the file's own scale, the pixels in that of 8 bits.
    if image.mode == "L" and isinstance(key, int) and layout in ("L;2", "L;4"):
        image.info["transparency"] = key * (85 if layout == "L;2" else 17)
    elif image.mode == "RGB" and isinstance(key, tuple) and layout.startswith("RGB;16"):
        image.info["transparency"] = tuple(level >> 8 for level in key)
    if image.mode == "F" or {2, 3} & set(tags.get(339, ())):
        raise ValueError("its samples are floats or signed numbers, which have no fixed range: save it with 8 bits")
    if image.mode == "I" and form not in ("PPM", "PNG"):
        raise ValueError("its samples are 32-bit numbers, whose range is unknown: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        # Grey levels up to 65535, which Pillow would cut off at 255.
        largest, levels = 4095 if layout == "I;12" else 65535, np.asarray(image).astype(np.int64)
        shown = (largest - levels if tags.get(262) == 0 else levels) * 255 / largest
        image = Image.fromarray(shown.clip(0, 255).round().astype(np.uint8))
        if isinstance(key, int):
            image.putalpha(Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else image.mode).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def read_image(path: Path, size: int, crop: int | None = None) -> Tensor:
    """One picture as ``uint8 (3, size, size)``: its centred square, of the shortest side or ``crop`` pixels, resized.

    Shrinking averages over areas (which cannot alias), enlarging is bicubic, as in :func:`course_lib.data.resize`.
    Transparent pixels become white, phone pictures are turned upright, samples of more than 8 bits are scaled to their
    range, and of an animation the first frame is taken. Content decides what a file is; its name and metadata do not,
    but for ``.npy``, a ``uint8`` array (see CelebA-HQ)."""
    try:
        image = _from_array(path) if path.suffix.lower() == ".npy" else _decoded(path)
    except FileNotFoundError as error:
        raise CourseError(f"the image {path} is missing: put it back, or unpack the data set again.") from error
    except Exception as error:  # Decoders raise a dozen unrelated types on damaged bytes.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        raise CourseError(f"{path} cannot be read as an image ({reason}): replace it, or move it away.") from error
    side = min(*image.size, crop or max(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    filtering = Image.Resampling.BOX if size < side else Image.Resampling.BICUBIC
    image = image.crop((left, top, left + side, top + side)).resize((size, size), filtering)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def check_room(count: int, size: int, name: str) -> None:
    """A CourseError where ``count`` decoded images do not fit into the free memory."""
    if not isinstance(size, int) or size < 1:
        raise CourseError(f"an image size of {size!r} makes no sense: give a positive number of pixels.")
    needed, free = count * 3 * size * size, psutil.virtual_memory().available
    if needed > 0.8 * free:
        text = f"{name!r} has {count:,} images, {needed / 2**30:.1f} GiB at {size} px, and {free / 2**30:.1f} GiB of "
        how = f"take fewer with `max_images={int(0.8 * free) // (3 * size * size)}`, or a smaller `size`"
        raise CourseError(f"{text}memory are free: {how}.")


@dataclass(frozen=True)
class FileSet(ImageSet):
    """A data set whose pictures still lie in files: ``images`` are their paths, ``crop`` as in :func:`read_image`."""

    images: list[Path]
    crop: int | None = None

    def _images_at(self, index: Tensor) -> list[Path]:
        return [self.images[k] for k in index.tolist()]

    def summary(self) -> str:
        """Name, classes and counts in one line, with those of each part."""
        names, count = self.classes["class"], self.labels["class"].bincount(minlength=len(self.classes["class"]))
        listed = ", ".join(f"{name} {count[k]}" for k, name in enumerate(names[:12]))
        more = f", and {len(names) - 12} more" if len(names) > 12 else ""
        parts = self.split.bincount(minlength=3).tolist() if len(self.split) else []
        split = "; " * bool(parts) + ", ".join(f"{SPLITS[k]} {count}" for k, count in enumerate(parts))
        kinds = "1 class" if len(names) == 1 else f"{len(names)} classes"
        return f"{self.name}: {len(self)} pictures, {kinds} ({listed}{more}){split}"

    def load(self, size: int, max_images: int | None = None) -> ImageSet:
        """Decodes the files into memory, ``3 · size²`` bytes each; at most ``max_images``, evenly spaced over the
        sorted files: every class stays in. A CourseError where a file is no image, or memory is short."""
        index = evenly_spaced(len(self), max_images)
        check_room(len(index), size, self.name)
        chosen = self.subset(index)
        images = torch.empty(len(chosen), 3, size, size, dtype=torch.uint8)
        pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes outside the interpreter lock.
        try:
            decoded = pool.map(lambda path: read_image(path, size, self.crop), chosen.images)
            bar = progress_bar(iterable=decoded, desc=self.name, total=len(chosen), unit=" images")
            for k, image in enumerate(bar):
                images[k] = image
        finally:
            pool.shutdown(cancel_futures=True)
        return ImageSet(self.name, images, chosen.labels, self.classes, chosen.captions, chosen.split)


# --- folders of your own ----------------------------------------

# Sub-folders with these names are parts of a set, not classes of it.
_PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
# A part and the name of a class in one, as in trainA of unpaired translation, or train_cats.
_JOINED = re.compile(r"(?i:(training|train|validation|valid|val|testing|test))(?:[-_. ]+(.+)|([A-Z0-9].*))")
_HIDDEN = {"thumbs.db", "desktop.ini", "__macosx"}


def existing_folder(path: Path | str) -> Path:
    """``path`` as a folder that exists, or a CourseError."""
    folder = Path(path).expanduser()
    if os.path.isdir(folder):  # unlike Path's method quiet about names that no system takes
        return folder
    if os.path.exists(folder):
        raise CourseError(f"{folder} is a file: give the folder that holds the images (an archive unpacked).")
    raise CourseError(f"there is no folder {folder}: check the path (it is seen from {Path.cwd()}).")


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Sub-folders and files that are not hidden, each sorted by name."""
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise CourseError(f"{folder} cannot be opened ({error.strerror}): make it readable.") from error
    shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _HIDDEN]
    return [entry for entry in shown if entry.is_dir()], [entry for entry in shown if not entry.is_dir()]


def _images_below(folder: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    """Image files of ``folder`` and everything below it, sorted level by level."""
    here = folder.resolve()
    if here in above:
        raise CourseError(f"{folder} is a link to a folder that holds it: remove the link.")
    folders, found = _entries(folder)
    for file in found:
        if file.suffix.lower() not in SUFFIXES:
            known = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise CourseError(f"{file} is not an image ({known}): move it out of the folder.")
        if file.exists() and not file.is_file():
            raise CourseError(f"{file} is no file but a device or pipe: move it out of the folder.")
    for sub in folders:
        found += _images_below(sub, (*above, here))
    return sorted(found, key=lambda file: file.relative_to(folder).parts)


def _listed(folders: list[Path]) -> str:
    return ", ".join(folder.name for folder in folders[:8]) + (", …" if len(folders) > 8 else "")


def _class_name(folder: Path) -> str:
    """Its name as labels and figures show it; composed, since systems differ in how they write é."""
    name = unicodedata.normalize("NFC", folder.name)
    if name != name.strip() or {"Cc", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, name)):
        why = "cannot be shown (line breaks, outer spaces or broken characters): rename it"
        raise CourseError(f"the name of the folder {folder.name!r} in {folder.parent} {why}.")
    return name


def _classes_of(folder: Path) -> dict[str, list[Path]]:
    """Class name → files. Without sub-folders there is one class, called like the folder."""
    inside, loose = _entries(folder)
    if inside and loose:
        raise CourseError(f"{loose[0]} lies beside sub-folders: put images into that of their class, others elsewhere.")
    groups: dict[str, list[Path]] = {}
    for sub in inside or [folder]:
        deeper = _entries(sub)[0] if inside else []
        if parts := [one for one in deeper if one.name.lower() in _PARTS]:
            raise CourseError(f"{sub} holds the parts {_listed(parts)}, so {folder} lies a level too high: give {sub}.")
        if len(inside) == 1 and len(deeper) > 1:
            text = f"{folder} holds one folder, {sub.name}, with the folders {_listed(deeper)} in it: give {sub} if"
            raise CourseError(f"{text} these are the classes.")
        files, name = _images_below(sub), _class_name(sub)
        if not files:
            raise CourseError(f"the folder {sub} has no images: add some ({', '.join(SUFFIXES[:3])}, …) or remove it.")
        if name in groups:
            raise CourseError(f"{folder} has two folders that are both called {name!r}: rename one.")
        groups[name] = files
    return groups


def _part_and_class(name: str) -> tuple[str, str] | None:
    """What the name of a folder says, as ``test`` or ``trainA``; the class is "" where the folder holds classes."""
    if name.lower() in _PARTS:
        return SPLITS[_PARTS[name.lower()]], ""
    found = _JOINED.fullmatch(name)
    return (SPLITS[_PARTS[found[1].lower()]], found[2] or found[3]) if found else None


def _groups_of(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Part (or ``""`` where there are none) → class → files."""
    folders, loose = _entries(folder)
    named = {sub: found for sub in folders if (found := _part_and_class(sub.name))}
    plain = [sub for sub, (_, name) in named.items() if not name]
    parts = plain or list(named)
    others = [sub for sub in folders if sub not in parts]
    # train_station beside bus is a class; trainA with testA beside others is unclear.
    if others and (plain or len(named) > len({name for _, name in named.values()})):
        plural, how = "s" * (len(parts) > 1), "move what is no part elsewhere, or rename it if all are classes"
        raise CourseError(f"{folder} has the part{plural} {_listed(parts)} beside {_listed(others)}: {how}.")
    if others or not parts:
        return {"": _classes_of(folder)}
    if images := [file for file in loose if file.suffix.lower() in SUFFIXES]:
        raise CourseError(f"{images[0]} lies beside the parts {_listed(folders)}: put it into one of them.")
    flat = [sub for sub in plain if not _entries(sub)[0]]
    if flat and len(flat) < len(plain):
        raise CourseError(f"{flat[0]} has no sub-folders for classes, as others have: sort its images or move it away.")
    groups: dict[str, dict[str, list[Path]]] = {}
    for sub, (part, name) in named.items():
        one_class = _class_name(sub.with_name(name) if name else folder)
        if part in groups and (not name or one_class in groups[part]):
            raise CourseError(f"{folder} has two folders for the part {part!r}{name and f' of {name!r}'}: keep one.")
        found = {one_class: _images_below(sub)} if name or flat else _classes_of(sub)
        groups[part] = groups.get(part, {}) | found
    for part, classes in groups.items():
        for name, files in classes.items():
            if not files:
                raise CourseError(f"the part {part!r} of {name!r} in {folder} has no images: add some or remove it.")
            if name not in groups.get("train", classes):
                text = f"the class {name!r} of {folder} is in the part {part!r} and not in 'train'"
                trained = ", ".join(sorted(groups["train"])[:8])
                raise CourseError(f"{text} ({trained}): name its folders alike, or remove it.")
    return groups


def find_folder(path: Path | str, name: str | None = None) -> FileSet:
    """Lists a folder without opening its pictures, in the order of their names.

    One sub-folder a class (or domain), or one folder of images as a single class. Sub-folders named ``train``, ``val``,
    ``test`` are the fixed split and hold the classes one level deeper; the names of unpaired translation, ``trainA``
    and ``testB``, say part and class at once. Deeper levels belong to their class; hidden files are passed over. What
    is unclear is refused. Labels are ``class`` and ``domain`` (the same)."""
    folder = existing_folder(path)
    folder = folder.resolve() if not folder.name else folder  # "." has no name of its own
    groups = _groups_of(folder)
    classes = sorted({label for files in groups.values() for label in files})
    rows = [
        (file, classes.index(label), SPLITS.index(part) if part else 0)
        for part, by_class in groups.items()
        for label, files in by_class.items()
        for file in files
    ]
    files, label, split = map(list, zip(*rows, strict=True))
    labels = dict.fromkeys(("class", "domain"), torch.tensor(label))
    names = dict.fromkeys(("class", "domain"), classes)
    parts = torch.tensor([] if "" in groups else split, dtype=torch.int64)
    return FileSet(name or folder.name, files, labels, names, split=parts)


def load_folder(found: FileSet | Path | str, size: int, max_images: int | None = None) -> ImageSet:
    """Your own pictures, see :func:`find_folder` and :meth:`FileSet.load`; what was found is printed."""
    found = found if isinstance(found, FileSet) else find_folder(found)
    data = found.load(size, max_images)
    print(found.summary())
    return data
