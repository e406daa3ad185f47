"""The bundled world: avatars of people and of thirty other kinds, drawn by a program into the cache.

Nothing is stored in the repository but the recipe, the counts and a hash; the pictures lie in the cache folder,
memory-mapped, and are drawn there, in parallel, at first use."""

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import distributions, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import CourseError, progress_bar
from ..profiles import DATA, cache_dir
from .image_set import ImageSet, evenly_spaced, few_training_pictures, regroup
from .people import ATTRIBUTES, CLOTHES, STYLES, Person, captions, draw_parts, on_white, options_of, people, render

SIZE, PER_KIND = 64, 400
SOURCE_STYLES = ("personas", "micah", "toon-head")
"""The people styles that StyleGAN and ALAE are trained on; transfers have the three others for targets near by."""
FOLDER = DATA / "avatars"

_OLD = "adventurer adventurer-neutral big-ears cameo clay croodles cutouts fun-emoji gaze glyphs icons identicon "
_OLD += "line-face lorelei marbles miniavs notionists rings shadows slice stack thumbs"
_NEW = "critters landscape moods open-peeps pixelbot planets sprouts voxel-bot"
OLD_KINDS, NEW_KINDS = _OLD.split(), _NEW.split()
"""Kinds that class-conditional generators never see: the new classes of class transfer. `critters` are near to `clay`,
`moods` to `fun-emoji` and `marbles`, `open-peeps` to `lorelei` and `notionists`, `voxel-bot` to `voxel-art`;
landscapes, planets and sprouts have no relative among the old ones."""
KINDS: dict[str, dict] = {kind: {"backgroundColor": "#ffffff"} for kind in OLD_KINDS + NEW_KINDS}
KINDS |= {kind: {} for kind in ("fun-emoji", "landscape", "pixelbot")}
"""Style → options, besides the six people styles. Backgrounds are white except where the background is the thing."""
_ALL_KINDS = [*STYLES, *KINDS]

# --- drawing ----------------------------------------


def _draw_pictures(jobs: Sequence[tuple[str, dict]]) -> bytes:
    return b"".join(on_white(render(style, options, SIZE)).transpose(2, 0, 1).tobytes() for style, options in jobs)


def _draw_parts(jobs: Sequence[tuple[int, tuple[Person, str]]]) -> bytes:
    pictures = np.memmap(_path("people", _manifest()), np.uint8, "r").reshape(-1, 3, SIZE, SIZE)
    return b"".join(draw_parts(*job, pictures[row].transpose(1, 2, 0)).tobytes() for row, job in jobs)


def _people_jobs(persons: Sequence[Person], styles: Sequence[str] = tuple(STYLES)) -> list[tuple[str, dict]]:
    return [(style, options_of(person, style)) for style in styles for person in persons]


def _kinds_jobs(kinds: Sequence[str], count: int, name: str = "") -> list[tuple[str, dict]]:
    return [(kind, KINDS[kind] | {"seed": f"{kind}-{name}{number}"}) for kind in kinds for number in range(count)]


Work = Callable[[Sequence[Any]], bytes]
BLOCKS: dict[str, tuple[Work, Callable[[], list[Any]], int]] = {
    "people": (_draw_pictures, lambda: _people_jobs(people()[0]), 3),
    "kinds": (_draw_pictures, lambda: _kinds_jobs(tuple(KINDS), PER_KIND), 3),
    "parts": (_draw_parts, lambda: list(enumerate((one, style) for style in STYLES for one in people()[0])), 1),
}
"""File of the cache → how a batch of it is drawn, what is drawn, channels."""


def _in_parallel(work: Work, jobs: list[Any], write: Callable[[bytes], object], label: str) -> None:
    """Draws ``jobs`` in order, many of them on all cores, and hands every batch to ``write``; with a progress bar."""
    chunks = [jobs[start : start + 120] for start in range(0, len(jobs), 120)]
    with progress_bar(total=len(jobs), desc=label, unit=" pictures") as bar, ExitStack() as stack:
        run: Callable[..., Iterable[bytes]] = map
        if len(jobs) > 1000:  # fewer are drawn before a second process has started
            # Spawned, not forked: a fork of a process that has used torch's threads can hang.
            pool = ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            run = pool.map
        try:
            for chunk, drawn in zip(chunks, run(work, chunks), strict=True):
                write(drawn)
                bar.update(len(chunk))
        except (KeyboardInterrupt, BrokenProcessPool) as error:
            why = "was stopped" if isinstance(error, KeyboardInterrupt) else "lost a worker process"
            text = f"{label} {why}; nothing half-done is left. Run it again; a script of your own needs "
            raise CourseError(text + "`if __name__ == '__main__':` around what it does.") from error


def _fresh(jobs: list[tuple[str, dict]]) -> Tensor:
    """``uint8 (len(jobs), 3, 64, 64)``, drawn now."""
    drawn: list[bytes] = []
    _in_parallel(_draw_pictures, jobs, drawn.append, "drawing avatars")
    return torch.frombuffer(bytearray(b"".join(drawn)), dtype=torch.uint8).view(-1, 3, SIZE, SIZE)


def fresh_people(each: int, seed: int = 1, styles: Sequence[str] = tuple(STYLES), count: int = 0) -> ImageSet:
    """People who are in no file, drawn anew at every call, on all cores: ``each`` new ones of every one of the 792
    combinations of the training part, or ``count`` of them. Labels and captions as in :func:`load_people`."""
    known, split = people()
    trained = dict.fromkeys(replace(one, seed="") for one, part in zip(known, split, strict=True) if part == 0)
    persons = [replace(one, seed=f"fresh-{seed}-{k}-{n}") for k, one in enumerate(trained) for n in range(each)]
    persons = random.Random(seed).sample(persons, min(count, len(persons))) if count else persons
    return _people_set("fresh people", persons, [0] * len(persons), _fresh(_people_jobs(persons, styles)), styles)


def fresh_kinds(each: int, seed: int = 1, kinds: Sequence[str] = OLD_KINDS) -> ImageSet:
    """Pictures of kinds that are in no file: ``each`` new ones of each, drawn anew; labels as in :func:`load_kinds`."""
    images = _fresh(_kinds_jobs(kinds, each, f"fresh-{seed}-"))
    label = torch.tensor([_ALL_KINDS.index(kind) for kind in kinds]).repeat_interleave(each)
    return _kinds_set("fresh kinds", images, label, torch.zeros(len(label), dtype=torch.int64))


# --- the cache ----------------------------------------


def _manifest() -> dict:
    try:
        return json.loads((FOLDER / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        text = f"data/avatars/manifest.json is missing or damaged ({error}): restore it with `git checkout data`."
        raise CourseError(text) from error


def _check_packages(manifest: dict) -> None:
    for name, needed in manifest["packages"].items():
        found = next((one.version for one in distributions(name=name)), "none")
        if found != needed:
            raise CourseError(f"{name} {needed} draws pictures, {found} is installed: `pip install {name}=={needed}`.")


def _thumbnails(path: Path, block: str, count: int) -> np.ndarray:
    """``uint8 (n · 8, 8, 3)``: every 64th picture, averaged over 8×8 pixels, one below the other."""
    channels = BLOCKS[block][2]
    pictures = np.memmap(path, np.uint8, "r", shape=(count, channels, SIZE, SIZE))[::64].astype(np.float32)
    small = pictures.reshape(len(pictures), channels, 8, SIZE // 8, 8, SIZE // 8).mean((3, 5))
    # One pixel that counts for another part moves the mean of its 64 by 4/64 at most: 30 of these are less than 2.
    small = np.rint(small * (30 if block == "parts" else 1)).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.broadcast_to(small, (*small.shape[:3], 3)).reshape(-1, 8, 3)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_right(path: Path, block: str, manifest: dict) -> bool:
    """Whether a file holds the course's pictures: the same bytes, or another processor's rounding of the same view."""
    count = manifest["count"][block]
    if path.stat().st_size != count * BLOCKS[block][2] * SIZE * SIZE:
        return False
    if _hash(path) == manifest["sha256"][block]:
        return True
    shown = np.asarray(Image.open(FOLDER / f"{block}.png").convert("RGB")).astype(np.int16)
    return bool((np.abs(_thumbnails(path, block, count) - shown) <= 2).all())


def _path(block: str, manifest: dict) -> Path:
    return cache_dir() / f"avatars-{block}-{manifest['sha256'][block][:12]}.u8"


def _draw_block(block: str, path: Path) -> None:
    """Draws a block beside ``path`` and moves it there when it is whole."""
    if block == "parts":
        build("people")
    work, jobs, _ = BLOCKS[block]
    temporary = path.with_suffix(f".{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            _in_parallel(work, jobs(), file.write, f"drawing {block}")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def build(block: str, again: bool = False) -> Path:
    """The cache file of ``people``, ``kinds`` or ``parts``; drawn first where it is missing or damaged, or ``again``.

    A CourseError where a package has another version, there is no room, or what was drawn is not the course's."""
    manifest = _manifest()
    path = _path(block, manifest)
    checked = path.with_suffix(".json")  # size and last change of a file that was found to be right
    try:
        there = not again and path.is_file()
        if there and checked.is_file() and checked.read_text() == _mark(path):
            return path
        if there and not _is_right(path, block, manifest):
            print(f"the file of {block} in the cache is damaged: drawing it again")
            there = False
        if not there:
            _check_packages(manifest)
            _draw_block(block, path)
            if not _is_right(path, block, manifest):
                path.unlink()
                raise CourseError(f"the {block} drawn here are not the course's: install anew (`make clean setup`).")
        checked.write_text(_mark(path))
    except OSError as error:
        text = f"pictures cannot be kept in {path.parent} ({error.strerror or error}): free 400 MB or set COURSE_CACHE."
        raise CourseError(text) from error
    return path


def _mark(path: Path) -> str:
    stat = path.stat()
    return json.dumps({"size": stat.st_size, "changed": stat.st_mtime_ns})


def check_recipe() -> None:
    """A CourseError unless all that drawing needs is there: manifest, thumbnails, and packages of its versions."""
    manifest = _manifest()
    for block in BLOCKS:
        if not (FOLDER / f"{block}.png").is_file():
            raise CourseError(f"data/avatars/{block}.png is missing: restore it with `git checkout data`.")
    _check_packages(manifest)


def check() -> dict[str, str]:
    """What the cache holds, every byte looked at: block → ``right``, ``missing`` or ``damaged``. Draws nothing."""
    manifest, found = _manifest(), dict.fromkeys(BLOCKS, "missing")
    for block in BLOCKS:
        if (path := _path(block, manifest)).is_file():
            found[block] = "right" if _is_right(path, block, manifest) else "damaged"
    return found


def record() -> None:
    """Draws everything and writes manifest and thumbnails anew: for maintainers, after a change of what is drawn."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    packages = {name: version(name) for name in ("dicebear-core", "dicebear-styles", "resvg-py")}
    manifest: dict[str, dict] = {"packages": packages, "count": {}, "sha256": {}}
    for block, (_, jobs, _) in BLOCKS.items():
        path = cache_dir() / f"avatars-{block}-new.u8"
        _draw_block(block, path)
        manifest["count"][block], manifest["sha256"][block] = len(jobs()), _hash(path)
        Image.fromarray(_thumbnails(path, block, len(jobs()))).save(FOLDER / f"{block}.png", optimize=True)
        os.replace(path, _path(block, manifest))
        # After every block: parts are found by comparing with the people that the manifest names.
        (FOLDER / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


# --- the sets ----------------------------------------


def _mapped(block: str) -> Tensor:
    # A private mapping: pages are shared between kernels until someone writes, and writes never reach the file.
    path = build(block)
    flat = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    return flat.view(-1, BLOCKS[block][2], SIZE, SIZE)


@lru_cache(maxsize=1)
def load_people() -> ImageSet:
    """3,180 people in six styles at 64 pixels, with attributes, captions and a split that holds out combinations.

    Picture ``style · 3180 + i`` is person ``i`` in that style: true pairs. Labels: those of :data:`.people.ATTRIBUTES`,
    ``style`` (also as ``domain``), ``person``, and ``clothes``: their colour, in no caption."""
    return _people_set("people", *people(), _mapped("people"), tuple(STYLES))


def _people_set(name: str, persons: list[Person], split: list[int], images: Tensor, styles: Sequence[str]) -> ImageSet:
    labels = {"person": torch.arange(len(persons)).repeat(len(styles))}
    classes = {"person": [person.seed for person in persons]}
    for label, known in (ATTRIBUTES | {"clothes": tuple(CLOTHES)}).items():
        values = [known.index(getattr(person, label)) for person in persons]
        labels[label], classes[label] = torch.tensor(values).repeat(len(styles)), list(known)
    classes["style"] = classes["domain"] = list(STYLES)
    numbers = torch.tensor([classes["style"].index(style) for style in styles])
    labels["style"] = labels["domain"] = numbers.repeat_interleave(len(persons))
    texts = [captions(person) for person in persons] * len(styles)
    return ImageSet(name, images, labels, classes, texts, torch.tensor(split).repeat(len(styles)))


def people_parts() -> Tensor:
    """For every pixel of :func:`load_people` which of :data:`.people.PARTS`: ``uint8 (19080, 64, 64)``."""
    return _mapped("parts")[:, 0]


@lru_cache(maxsize=1)
def load_kinds() -> ImageSet:
    """Thirty-six kinds, 400 pictures each at 64 pixels: the six people styles and thirty others. Label: ``kind``. Of
    each 320 are train, 40 val and 40 test; :data:`NEW_KINDS` are kept from generators that transfers start from."""
    persons, count = load_people(), len(people()[0])
    counts = (PER_KIND * 8 // 10, PER_KIND // 10, PER_KIND // 10)
    rows = [(persons.split[:count] == part).nonzero()[:, 0] for part in range(3)]
    # Evenly spaced: neighbours share their attributes, so the first ones would all have one skin.
    of_style = torch.cat([row[evenly_spaced(len(row), wanted)] for row, wanted in zip(rows, counts, strict=True)])
    chosen = torch.cat([of_style + style * count for style in range(len(STYLES))])
    label = torch.arange(len(_ALL_KINDS)).repeat_interleave(PER_KIND)
    split = torch.repeat_interleave(torch.arange(3), torch.tensor(counts)).repeat(len(_ALL_KINDS))
    return _kinds_set("kinds", torch.cat([persons.images[chosen], _mapped("kinds")]), label, split)


def _kinds_set(name: str, images: Tensor, label: Tensor, split: Tensor) -> ImageSet:
    names = ("kind", "class", "domain")
    return ImageSet(name, images, dict.fromkeys(names, label), dict.fromkeys(names, _ALL_KINDS), split=split)


def kind_classes(names: Sequence[str], per_class: int | None = None, seed: int = 0) -> ImageSet:
    """Kinds (people styles included) as ``labels["class"]``, in that order; ``per_class`` leaves at most so many
    training pictures of each, drawn by ``seed``."""
    return few_training_pictures(regroup(load_kinds(), {name: (name,) for name in names}, "kind"), per_class, seed)
