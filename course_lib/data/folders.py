"""Your own pictures: finds the images of a folder without opening them, and says no where its layout is unclear.

Decoding is in ``file_set``.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import CourseError
from .file_set import SUFFIXES, FileSet
from .image_set import SPLITS, ImageSet

__all__ = ["existing_folder", "find_folder", "load_folder"]

# Sub-folders with these names are parts of a set, not classes of it.
_PARTS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2}
# As trainA and testA of unpaired translation, or train_cats: a part and the name of a class in one.
_JOINED = re.compile(r"(?i:(training|train|validation|valid|val|testing|test))(?:[-_. ]+(.+)|([A-Z0-9].*))")
_HIDDEN = {"thumbs.db", "desktop.ini", "__macosx"}

_Groups = dict[str, dict[str, list[Path]]]
"""Part (or ``""`` where there are none) → class → files."""


def existing_folder(path: Path | str) -> Path:
    """``path`` as a folder that exists.

    Raises:
        CourseError: there is none, or it is a file.
    """
    folder = Path(path).expanduser()
    try:
        if folder.is_dir():
            return folder
        exists = folder.exists()
    except (OSError, ValueError) as error:
        raise CourseError(f"{str(path)!r} cannot be opened ({error}): check the path.") from error
    if exists:
        raise CourseError(f"{folder} is a file: give the folder that holds the images (an archive unpacked).")
    raise CourseError(f"there is no folder {folder}: check the path (it is seen from {Path.cwd()}).")


def _visible(folder: Path) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise CourseError(f"{folder} cannot be opened ({error.strerror}): make it readable.") from error
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name.lower() not in _HIDDEN]


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _images_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Image files of ``folder`` and everything below it, sorted level by level."""
    here = folder.resolve()
    if here in above:
        raise CourseError(f"{folder} is a link to a folder that holds it: remove the link.")
    for entry in _visible(folder):
        if entry.is_dir():
            yield from _images_below(entry, (*above, here))
        elif entry.suffix.lower() not in SUFFIXES:
            raise CourseError(
                f"{entry} is not an image ({', '.join(suffix[1:] for suffix in SUFFIXES)}): move it out of the folder."
            )
        elif entry.exists() and not entry.is_file():
            raise CourseError(f"{entry} is no file but a device or pipe: move it out of the folder.")
        else:
            yield entry


def _listed(folders: list[Path]) -> str:
    return ", ".join(folder.name for folder in folders[:8]) + (", …" if len(folders) > 8 else "")


def _class_name(folder: Path) -> str:
    """Its name as labels and figures show it; composed, since systems differ in how they write é."""
    name = unicodedata.normalize("NFC", folder.name)
    if name != name.strip() or {"Cc", "Cs", "Zl", "Zp"} & set(map(unicodedata.category, name)):
        raise CourseError(
            f"the name of the folder {folder.name!r} in {folder.parent} cannot be shown (line breaks, outer spaces or "
            "broken characters): rename it."
        )
    return name


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
    groups: dict[str, list[Path]] = {}
    for sub in inside or [folder]:
        if inside and (parts := [one for one in _folders(sub) if one.name.lower() in _PARTS]):
            raise CourseError(
                f"{sub} holds the parts {_listed(parts)}, so {folder} lies a level too high: give {sub} itself."
            )
        if len(inside) == 1 and len(deeper := _folders(sub)) > 1:
            raise CourseError(
                f"{folder} holds one folder, {sub.name}, with the folders {_listed(deeper)} in it: give {sub} if these "
                "are the classes."
            )
        files, name = list(_images_below(sub)), _class_name(sub)
        if not files:
            raise CourseError(f"the folder {sub} has no images: add some ({', '.join(SUFFIXES[:3])}, …) or remove it.")
        if name in groups:
            raise CourseError(f"{folder} has two folders that are both called {name!r}: rename one.")
        groups[name] = files
    return groups


def _parts_of(folder: Path, folders: list[Path]) -> _Groups:
    """Sub-folders that are all parts, with classes in them or without."""
    flat = [sub for sub in folders if not _folders(sub)]
    if flat and len(flat) < len(folders):
        raise CourseError(
            f"{flat[0]} has no sub-folders for classes while another part has: sort its images into the classes, or "
            "move it elsewhere."
        )
    groups: _Groups = {}
    for sub in folders:
        part, found = SPLITS[_PARTS[sub.name.lower()]], _classes_of(sub)
        if part in groups:
            raise CourseError(f"{_listed(folders)} in {folder}: two of them are the part {part!r}; keep one.")
        groups[part] = {_class_name(folder): next(iter(found.values()))} if flat else found
    return groups


def _joined_parts(folder: Path, folders: list[Path]) -> _Groups:
    """Sub-folders such as ``trainA`` and ``testA``, each a part of one class; empty where names say no such thing."""
    found = {sub: match for sub in folders if (match := _JOINED.fullmatch(sub.name))}
    groups: _Groups = {}
    for sub, match in found.items():
        part, name = SPLITS[_PARTS[match[1].lower()]], _class_name(sub.with_name(match[2] or match[3]))
        if name in groups.setdefault(part, {}):
            raise CourseError(f"{folder} has two folders for the part {part!r} of {name!r}: keep one.")
        groups[part][name] = list(_images_below(sub))
    others = [sub for sub in folders if sub not in found]
    twice = len(found) > len({name for classes in groups.values() for name in classes})
    if others and twice:  # train_station beside bus is a class; trainA with testA beside others is unclear
        raise CourseError(f"{folder} has the parts {_listed(list(found))} beside {_listed(others)}: {_MOVE}")
    return {} if others else groups


_MOVE = "move what is no part elsewhere, or rename it if all are classes."


def _groups_of(folder: Path) -> _Groups:
    folders = _folders(folder)
    parts = [sub for sub in folders if sub.name.lower() in _PARTS]
    if parts and len(parts) < len(folders):
        others = [sub for sub in folders if sub not in parts]
        raise CourseError(
            f"{folder} has the part{'s' * (len(parts) > 1)} {_listed(parts)} beside {_listed(others)}: {_MOVE}"
        )
    groups = _parts_of(folder, folders) if parts else _joined_parts(folder, folders)
    if not groups:
        return {"": _classes_of(folder)}
    if loose := [entry for entry in _visible(folder) if entry.suffix.lower() in SUFFIXES and not entry.is_dir()]:
        raise CourseError(f"{loose[0]} lies beside the parts {_listed(folders)}: put it into one of them.")
    for part, classes in groups.items():
        for name, files in classes.items():
            if not files:
                raise CourseError(f"the part {part!r} of {name!r} in {folder} has no images: add some or remove it.")
            if name not in groups.get("train", classes):
                raise CourseError(
                    f"the class {name!r} of {folder} is in the part {part!r} and not in 'train' "
                    f"({', '.join(sorted(groups['train'])[:8])}): name its folders alike, or remove it."
                )
    return groups


def find_folder(path: Path | str, name: str | None = None) -> FileSet:
    """Lists a folder without opening its pictures; see :func:`load_folder` for the layout and what is raised."""
    folder = existing_folder(path)
    folder = folder.resolve() if not folder.name else folder  # "." has no name of its own
    groups = _groups_of(folder)
    classes = sorted({label for files in groups.values() for label in files})
    items = [
        (file, classes.index(label), SPLITS.index(part or "train"))
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
        split=torch.tensor([part for _, _, part in items] if "" not in groups else [], dtype=torch.int64),
    )


def load_folder(path: Path | str, size: int, max_images: int | None = None) -> ImageSet:
    """Your own pictures: one sub-folder per class (or domain), or one folder of images as a single class.

    Sub-folders named ``train``, ``val``, ``test`` are the fixed split and hold the classes one level deeper; the names
    of unpaired translation, ``trainA`` and ``testB``, say part and class at once. Deeper levels belong to their class.
    Where the names of parts stand beside others, or a level too deep, the folder is refused. Files are taken in the
    order of their names; hidden ones (``.DS_Store``, ``Thumbs.db``) are passed over. Labels are ``class`` and
    ``domain`` (the same: which sub-folder); there are no captions. What was found is printed.
    :func:`course_lib.data.file_set.read_image` says how a picture becomes a square,
    :meth:`course_lib.data.file_set.FileSet.load` what it costs in memory.

    Raises:
        CourseError: the folder is missing or empty, its layout is unclear, a file is no image, or memory is short.
    """
    found = find_folder(path)
    data = found.load(size, max_images)
    print(found.summary())
    return data
