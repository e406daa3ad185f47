"""Your own pictures: finds the images of a folder without opening them. Decoding is in ``file_set``."""

from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import CourseError
from .file_set import FileSet
from .image_set import ImageSet

__all__ = ["SUFFIXES", "existing_folder", "find_folder", "load_folder"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".npy")
# Sub-folders with these names are parts of a set, not classes of it.
SPLIT_FOLDERS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
HIDDEN = {"thumbs.db", "desktop.ini", "__macosx"}


def existing_folder(path: Path | str) -> Path:
    """``path`` as a folder that exists.

    Raises:
        CourseError: there is none, or it is a file.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CourseError(f"{folder} is a file: give the folder that holds the images.")
    raise CourseError(f"there is no folder {folder}: check the path (it is seen from {Path.cwd()}).")


def _visible(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise CourseError(f"{folder} cannot be opened ({error.strerror}): make it readable.") from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in HIDDEN]


def _images_below(folder: Path) -> Iterator[Path]:
    """Image files of ``folder`` and everything below it, sorted level by level."""
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _images_below(entry)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry
        else:
            raise CourseError(
                f"{entry} is not an image ({', '.join(suffix[1:] for suffix in SUFFIXES)}): move it out of the folder."
            )


def _classes_of(folder: Path) -> dict[str, list[Path]]:
    """Class name → files. Without sub-folders there is one class, called like the folder."""
    entries = _visible(folder)
    inside = [entry for entry in entries if entry.is_dir()]
    loose = [entry for entry in entries if not entry.is_dir()]
    if inside and loose:
        raise CourseError(
            f"{loose[0]} lies beside sub-folders: put every image into the sub-folder of its class, and other files "
            "elsewhere."
        )
    groups = {sub.name: list(_images_below(sub)) for sub in inside} or {folder.name: list(_images_below(folder))}
    for name, files in groups.items():
        if not files:
            where = folder / name if inside else folder
            raise CourseError(
                f"the folder {where} has no images: add some ({', '.join(SUFFIXES[:3])}, …) or remove it."
            )
    return groups


def find_folder(path: Path | str, name: str | None = None) -> FileSet:
    """Lists a folder without opening its pictures; see :func:`load_folder` for the layout and what is raised."""
    folder = existing_folder(path)
    folder = folder.resolve() if not folder.name else folder  # "." has no name of its own
    parts = {sub.name: sub for sub in _visible(folder) if sub.is_dir()}
    if parts and all(part.lower() in SPLIT_FOLDERS for part in parts):
        groups = {part: _classes_of(sub) for part, sub in parts.items()}
        flat = [part for part, sub in parts.items() if not any(entry.is_dir() for entry in _visible(sub))]
        if flat and len(flat) < len(parts):
            raise CourseError(
                f"{parts[flat[0]]} has no sub-folders for classes while another part has: sort its images into the "
                "classes, or move it elsewhere."
            )
        if flat:  # the whole set is one class
            groups = {part: {folder.name: by_class[part]} for part, by_class in groups.items()}
    else:
        groups = {None: _classes_of(folder)}
    classes = sorted({label for files in groups.values() for label in files})
    items = [
        (file, classes.index(label), SPLIT_FOLDERS[part.lower()] if part else 0)
        for part, by_class in groups.items()
        for label, files in by_class.items()
        for file in files
    ]
    label = torch.tensor([number for _, number, _ in items])
    return FileSet(
        name=name or folder.name,
        files=[file for file, _, _ in items],
        labels={"class": label, "domain": label},
        classes={"class": classes, "domain": classes},
        split=torch.tensor([part for _, _, part in items] if None not in groups else [], dtype=torch.int64),
    )


def load_folder(path: Path | str, size: int, max_images: int | None = None) -> ImageSet:
    """Your own pictures: one sub-folder per class (or domain), or one folder of images as a single class.

    Sub-folders named ``train``, ``val``, ``test`` are the fixed split and hold the classes one level deeper. Deeper
    levels belong to their class. Files are taken in the order of their names; hidden ones (``.DS_Store``,
    ``Thumbs.db``) are passed over. Labels are ``class`` and ``domain`` (the same: which sub-folder); there are no
    captions. :func:`course_lib.data.file_set.read_image` says how a picture becomes a square,
    :meth:`course_lib.data.file_set.FileSet.load` what it costs in memory.

    Raises:
        CourseError: the folder is missing or empty, or a file in it is no image, or memory is short.
    """
    return find_folder(path).load(size, max_images)
