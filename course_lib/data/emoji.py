"""The bundled set: 3,125 emoji in five art styles at 64 pixels, with captions, attributes and fixed splits."""

import gzip
import hashlib
import json
import os
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..errors import CourseError
from ..paths import DATA, cache_dir
from .attributes import ATTRIBUTES
from .image_set import ImageSet
from .splits import SPLITS

__all__ = ["check_files", "load_emoji"]

FOLDER = DATA / "emoji"


def _manifest(folder: Path) -> dict:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if not {"count", "size", "styles", "sha256"} <= manifest.keys():
            raise ValueError("entries are missing")
    except (OSError, ValueError, AttributeError) as error:
        raise CourseError(
            f"the emoji set's manifest.json is missing or damaged ({error}): restore it with `git checkout data`."
        ) from error
    return manifest


def _checked(folder: Path, name: str, manifest: dict) -> bytes:
    """Content of one bundled file, after comparing it with its recorded SHA-256.

    The table is kept packed; its hash is that of the content, which no version of gzip changes.
    """
    file = f"{name}.gz" if name.endswith(".json") else name
    try:
        content = (folder / file).read_bytes()
    except OSError as error:
        raise CourseError(f"data file {file} is missing: restore it with `git checkout data`.") from error
    try:
        content = gzip.decompress(content) if file != name else content
        intact = hashlib.sha256(content).hexdigest() == manifest["sha256"][name]
    except (OSError, EOFError, zlib.error):
        intact = False
    if not intact:
        raise CourseError(f"data file {file} is damaged (SHA-256 differs): restore it with `git checkout data`.")
    return content


def check_files(folder: Path = FOLDER) -> dict:
    """Compares every bundled file with its recorded SHA-256 and returns the manifest.

    Raises:
        CourseError: a file is missing or differs; nothing is changed.
    """
    manifest = _manifest(folder)
    for name in manifest["sha256"]:
        _checked(folder, name, manifest)
    return manifest


def _unpack_sheet(path: Path, count: int, size: int) -> np.ndarray:
    """``uint8 (count, 3, size, size)`` from a sprite sheet."""
    sheet = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = sheet.shape[0] // size, sheet.shape[1] // size
    tiles = sheet.reshape(rows, size, columns, size, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(rows * columns, 3, size, size)[:count]


def _decoded(folder: Path) -> torch.Tensor:
    """All images, memory-mapped from a cache file that is made (once) from the checked sheets."""
    manifest = _manifest(folder)
    styles, count, size = manifest["styles"], manifest["count"], manifest["size"]
    key = hashlib.sha256(json.dumps(manifest["sha256"]).encode()).hexdigest()[:16]
    total = len(styles) * count * 3 * size * size
    try:
        path = cache_dir() / f"emoji-{key}.u8"
        if not path.is_file() or path.stat().st_size != total:
            check_files(folder)
            temporary = path.with_suffix(f".{os.getpid()}.part")
            try:
                with temporary.open("wb") as file:
                    for style in styles:
                        file.write(_unpack_sheet(folder / f"{style}.webp", count, size).tobytes())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CourseError(
            f"the decoded emoji ({total >> 20} MB) cannot be written to the cache folder ({error}): "
            "free some space or set COURSE_CACHE to another folder."
        ) from error
    # A private mapping: pages are shared between kernels until someone writes, and writes never reach the file.
    flat = torch.from_file(str(path), shared=False, size=total, dtype=torch.uint8)
    return flat.view(len(styles) * count, 3, size, size)


@lru_cache(maxsize=2)
def load_emoji(folder: Path = FOLDER) -> ImageSet:
    """Opens the whole set. The first call ever decodes it (some two seconds), later ones map a file.

    Images are ordered style by style, so image ``style · count + i`` is emoji ``i`` in that style: true pairs. Labels:
    ``style`` (also as ``domain``), ``group``, ``subgroup``, ``emoji`` (which one of the 3,125), ``base`` (without skin
    tone and gender) and the attributes ``skin_tone``, ``gender``, ``age``, ``hair``.

    Raises:
        CourseError: a bundled file is missing or damaged, or the cache folder is full.
    """
    manifest = _manifest(folder)
    images = _decoded(folder)
    table = json.loads(_checked(folder, "emoji.json", manifest))
    styles = manifest["styles"]
    count = len(table)
    labels, classes = {}, {}
    names = {key: sorted({row[key] for row in table}) for key in ("group", "subgroup", "base")}
    for key, values in (names | {key: list(values) for key, values in ATTRIBUTES.items()}).items():
        position = {value: k for k, value in enumerate(values)}
        labels[key] = torch.tensor([position[row[key]] for row in table]).repeat(len(styles))
        classes[key] = values
    labels["emoji"] = torch.arange(count).repeat(len(styles))
    classes["emoji"] = [row["name"] for row in table]
    labels["style"] = labels["domain"] = torch.arange(len(styles)).repeat_interleave(count)
    classes["style"] = classes["domain"] = styles
    return ImageSet(
        name="emoji",
        images=images,
        labels=labels,
        classes=classes,
        captions=[row["captions"] for row in table] * len(styles),
        split=torch.tensor([SPLITS.index(row["split"]) for row in table]).repeat(len(styles)),
    )
