"""Picture files to pixels: one decoder, and a data set whose pictures still lie in files.

A :class:`FileSet` is loaded into memory as an ``ImageSet``, or streamed when it is too large for that.
"""

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import CourseError
from ..progress import progress_bar
from .image_set import SPLITS, ImageSet, in_split

__all__ = ["SUFFIXES", "FileSet", "check_memory", "read_image", "spread"]

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jp2"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".ico", ".npy"),
)
"""Endings of picture files, in lower case. What a file holds is seen from its content alone."""
PROGRESS_FROM = 2000
_UPRIGHT = dict(enumerate(("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270"), 2))
_UPRIGHT |= {7: "TRANSVERSE", 8: "ROTATE_90"}
_PNG_START = b"\x89PNG\r\n\x1a\n"

# Pillow warns about metadata, which decides nothing here; what it cannot decode it raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
    except OSError as error:
        if error.errno is not None:  # the system's, not the decoder's
            raise
        reason: Exception = error
    except (SyntaxError, ValueError) as error:
        reason = error
    content = path.read_bytes()
    if not content.startswith(_PNG_START):
        raise reason
    return _as_rgb(io.BytesIO(_pixels_of_png(content)))


def _as_rgb(source: Path | io.BytesIO) -> Image.Image:
    with Image.open(source) as image:
        arguments = image.tile[0].args if image.tile else ""
        layout = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        image.load()
        return _on_white(_upright(image), str(layout), image.format, getattr(image, "tag_v2", {}))


def _pixels_of_png(content: bytes) -> bytes:
    """The file without text, time and colour profile: such a chunk, damaged or huge, says nothing of the pixels."""
    kept, place = [_PNG_START], len(_PNG_START)
    while place + 8 <= len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(content[place:end])
        place = end
    return b"".join(kept)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF tag says; a tag that is damaged or unknown says nothing."""
    orientation = None
    with suppress(Exception):
        orientation = image.getexif().get(0x0112)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image.transpose(Image.Transpose[turn]) if turn else image


def _on_white(image: Image.Image, layout: str, form: str | None, tags: Mapping[int, Any]) -> Image.Image:
    """8-bit RGB version, transparency laid on white.

    Args:
        image: as decoded.
        layout: how the file packs its samples, as Pillow calls it.
        form: of the file.
        tags: of a TIFF.
    """
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
        image = _scaled(image, 4095 if layout == "I;12" else 65535, inverted=tags.get(262) == 0)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else image.mode).convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scaled(image: Image.Image, largest: int, inverted: bool) -> Image.Image:
    """Grey levels 0 to ``largest`` as 0 to 255; Pillow would cut them off. What is transparent gets an alpha of 0."""
    levels, key = np.asarray(image).astype(np.int64), image.info.get("transparency")
    shown = (largest - levels if inverted else levels) * 255 / largest
    grey = Image.fromarray(shown.clip(0, 255).round().astype(np.uint8))
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)))
    return grey


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise CourseError(f"the image {path} is missing: put it back, or unpack the data set again.") from error
    except Exception as error:  # Decoders raise a dozen unrelated types on damaged bytes.
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
        raise CourseError(
            f"{path} cannot be read as an image ({reason}): replace it, or move it out of the folder."
        ) from error


def _shortest_side(path: Path) -> int:
    """In pixels, from the file's head."""
    with _damage_named(path):
        if path.suffix.lower() == ".npy":
            return min(_from_array(path).size)
        with Image.open(path) as file:
            return min(file.size)


def read_image(path: Path, size: int, crop: int | None = None) -> Tensor:
    """One picture as ``uint8 (3, size, size)``: the centred square of the shortest side, resized.

    Shrinking averages over areas (which cannot alias), enlarging is bicubic, as in :func:`course_lib.data.resize`.
    Transparent pixels become white, phone pictures are turned upright, samples of more than 8 bits are scaled to their
    range, and of an animation the first frame is taken. Content decides what a file is; its name and metadata do not.

    Args:
        path: an image file, or ``.npy`` with a ``uint8`` array (see CelebA-HQ).
        size: side in pixels.
        crop: first cut out a centred square of this side; the whole shortest side by default.

    Raises:
        CourseError: the file is missing, is no image, is damaged, or has samples without a fixed range.
    """
    with _damage_named(path):
        if path.suffix.lower() == ".npy":
            image = _from_array(path)
        else:
            image = _decoded(path)
    side = min(*image.size, crop or max(image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    filtering = Image.Resampling.BOX if size < side else Image.Resampling.BICUBIC
    image = image.crop((left, top, left + side, top + side)).resize((size, size), filtering)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def check_memory(count: int, size: int, name: str) -> None:
    """Checks that ``count`` decoded images (``3 · size²`` bytes each) fit into the free memory.

    Raises:
        CourseError: they do not, or ``size`` is no positive number.
    """
    if not isinstance(size, int) or size < 1:
        raise CourseError(f"an image size of {size!r} makes no sense: give a positive number of pixels.")
    needed, free = count * 3 * size * size, psutil.virtual_memory().available
    if needed > 0.8 * free:
        fit = int(0.8 * free) // (3 * size * size)
        raise CourseError(
            f"{name!r} has {count:,} images, {needed / 2**30:.1f} GiB at {size} px, and {free / 2**30:.1f} GiB of "
            f"memory are free: take fewer with `max_images={fit}`, a smaller `size`, or `stream` the set."
        )


def spread(count: int, at_most: int | None) -> Tensor:
    """Up to ``at_most`` indices below ``count``, evenly spaced and rising."""
    if at_most is not None and at_most < 1:
        raise CourseError(f"max_images={at_most} leaves no image: give a positive number, or None for all.")
    if at_most is None or at_most >= count:
        return torch.arange(count)
    return torch.arange(at_most) * count // at_most


class _DecodedFiles(Dataset):
    """Decodes file ``i`` when asked for it; items are ``(uint8 (3, S, S), i)``."""

    def __init__(self, files: Sequence[Path], size: int, crop: int | None):
        self.files, self.size, self.crop = files, size, crop

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return read_image(self.files[i], self.size, self.crop), i


@dataclass(frozen=True)
class FileSet:
    """A data set whose pictures still lie in files; the other fields are those of an ``ImageSet``.

    Attributes:
        crop: side of the centred square that is cut out before resizing; None takes the shortest side.
    """

    name: str
    files: list[Path]
    labels: dict[str, Tensor] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    captions: list[list[str]] = field(default_factory=list)
    split: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    crop: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, index: Tensor) -> "FileSet":
        """The files at ``index``, in that order; a boolean mask works too."""
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index
        return replace(
            self,
            files=[self.files[i] for i in index.tolist()],
            labels={name: values[index] for name, values in self.labels.items()},
            captions=[self.captions[i] for i in index.tolist()] if self.captions else [],
            split=self.split[index] if len(self.split) else self.split,
        )

    def part(self, split: str) -> "FileSet":
        """The fixed ``train``, ``val`` or ``test`` part."""
        return self.subset(in_split(self.name, self.split, split))

    def large_enough(self, side: int) -> "FileSet":
        """Only pictures whose shortest side has ``side`` pixels or more; smaller ones would be enlarged and blurred.

        Raises:
            CourseError: a file is no image, or a class would lose all its pictures.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            kept = torch.tensor([found >= side for found in pool.map(_shortest_side, self.files)])
        for label, values in self.labels.items():
            left = values[kept].bincount(minlength=len(self.classes[label]))
            if (left == 0).any():
                name = self.classes[label][int(left.argmin())]
                raise CourseError(
                    f"no picture of {name!r} in {self.name!r} has {side} pixels on its shortest side: take a smaller "
                    "size, or larger pictures."
                )
        return self.subset(kept)

    def summary(self) -> str:
        """Name, classes and counts in one line, with those of each part."""
        names, label = self.classes["class"], self.labels["class"]
        counts = label.bincount(minlength=len(names)).tolist()
        listed = ", ".join(f"{name} {count}" for name, count in list(zip(names, counts, strict=True))[:12])
        more = f", and {len(names) - 12} more" if len(names) > 12 else ""
        parts = self.split.bincount(minlength=3).tolist() if len(self.split) else []
        split = "; " + ", ".join(f"{part} {count}" for part, count in zip(SPLITS, parts, strict=False)) if parts else ""
        kinds = "1 class" if len(names) == 1 else f"{len(names)} classes"
        return f"{self.name}: {len(self)} pictures, {kinds} ({listed}{more}){split}"

    def load(self, size: int, max_images: int | None = None) -> ImageSet:
        """Decodes the files into memory, ``3 · size²`` bytes each: 12 kB at 64 px, 48 kB at 128 px.

        Args:
            size: side in pixels.
            max_images: take at most so many, evenly spaced over the sorted files, so that every class stays in.

        Raises:
            CourseError: a file is no image, or memory is short.
        """
        chosen = self.subset(spread(len(self), max_images))
        check_memory(len(chosen), size, self.name)
        images = torch.empty(len(chosen), 3, size, size, dtype=torch.uint8)
        pool = ThreadPoolExecutor(os.cpu_count())  # Pillow decodes outside the interpreter lock.
        try:
            decoded = pool.map(lambda path: read_image(path, size, self.crop), chosen.files)
            few = len(chosen) < PROGRESS_FROM
            bar = progress_bar(not few, iterable=decoded, desc=self.name, total=len(chosen), unit=" images")
            for k, image in enumerate(bar):
                images[k] = image
        finally:
            pool.shutdown(cancel_futures=True)
        return ImageSet(self.name, images, chosen.labels, self.classes, chosen.captions, chosen.split)

    def stream(self, size: int, batch_size: int, seed: int | None = None, workers: int = 0) -> DataLoader:
        """Batches decoded on the fly, for sets too large for memory: ``(uint8 (B, 3, size, size), int64 (B,))``.

        The second tensor tells which files these are, so ``labels[name][index]`` are their labels;
        :func:`course_lib.data.to_float` brings the images to [−1, 1].

        Args:
            size: side in pixels.
            batch_size: images in a batch; the last one may be smaller.
            seed: shuffles anew in each pass, the same way for the same seed; file order when None.
            workers: decoding processes; 0 decodes in this one.

        Raises:
            CourseError: a file is no image (when its batch is due).
        """
        check_memory(batch_size, size, self.name)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        data = _DecodedFiles(self.files, size, self.crop)
        return DataLoader(data, batch_size, shuffle=seed is not None, generator=generator, num_workers=workers)
