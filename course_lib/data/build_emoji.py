"""Builds the bundled emoji set from five icon packs: SVG in, sprite sheets and a table out.

The recipe is deterministic: the same pack archives, renderer and WebP encoder give the same bytes. Get the
archives with ``npm pack NAME@VERSION`` (names and versions in :data:`ARCHIVES`), put them in one folder and run
``course data build FOLDER``. Sources and licences: ``data/LICENSES.md``.
"""

import gzip
import hashlib
import io
import json
import math
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import CourseError
from ..paths import DATA
from .attributes import attributes_of, base_code
from .captions import captions_of
from .splits import assign_splits

__all__ = ["ARCHIVES", "SHEET_COLUMNS", "SIZE", "STYLES", "build"]

SIZE = 64
SHEET_COLUMNS = 64
STYLES = ("noto", "twemoji", "openmoji", "fluent", "fluent-flat")
ARCHIVES = {
    "noto": "iconify-json-noto-1.2.9.tgz",
    "twemoji": "iconify-json-twemoji-1.2.5.tgz",
    "openmoji": "iconify-json-openmoji-1.2.29.tgz",
    "fluent": "iconify-json-fluent-emoji-1.2.7.tgz",
    "fluent-flat": "iconify-json-fluent-emoji-flat-1.2.6.tgz",
    "emojibase": "emojibase-data-17.0.0.tgz",
    "emojilib": "emojilib-4.0.3.tgz",
}
# The glossy pack is full of gradients; losslessly it would take 9 MB. Dropping the lowest two bits of each channel
# (an error of at most 2 grey levels of 255, invisible) brings it to half of that.
DROPPED_BITS = {"fluent": 2}


def _read(folder: Path, name: str, member: str) -> dict:
    path = folder / ARCHIVES[name]
    if not path.is_file():
        raise CourseError(f"{path} is missing: fetch the icon packs with `npm pack` as data/README.md describes.")
    try:
        with tarfile.open(path) as archive:
            return json.load(archive.extractfile(f"package/{member}"))
    except (tarfile.TarError, zlib.error, OSError, EOFError, KeyError, ValueError) as error:
        raise CourseError(f"{path} cannot be read ({error}): fetch it again with `npm pack`.") from error


def _code(text: str) -> str:
    """Normal form of a code-point sequence: lower case, without variation selectors."""
    return "-".join(part for part in text.lower().split("-") if part != "fe0f")


def _svg(pack: dict, name: str) -> str | None:
    """The icon ``name`` as a stand-alone SVG, with the pack's defaults and aliases resolved."""
    while name in pack.get("aliases", {}):
        name = pack["aliases"][name]["parent"]
    icon = pack["icons"].get(name)
    if icon is None:
        return None
    left, top = icon.get("left", 0), icon.get("top", 0)
    width, height = icon.get("width", pack.get("width", 16)), icon.get("height", pack.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def _render(svg: str | None) -> np.ndarray | None:
    """``(SIZE, SIZE, 3)`` uint8 on white, or None where there is no icon or the renderer refuses it."""
    try:
        import resvg_py
    except ImportError as error:
        raise CourseError("the SVG renderer is missing: install it with `pip install -e .[data]`.") from error
    if svg is None:
        return None
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg, width=SIZE, height=SIZE, background="#ffffff", skip_system_fonts=True
        )
    except ValueError:
        return None
    picture = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    blank = picture.min() == 255
    return None if blank or picture.shape != (SIZE, SIZE, 3) else picture


def _flatten(emoji: list[dict]) -> list[dict]:
    """Emojibase nests skin tones under their base; the table has one row for each."""
    rows = []
    for row in emoji:
        rows.append(row)
        rows.extend({**skin, "tags": row.get("tags", [])} for skin in row.get("skins", []))
    return [row for row in rows if "group" in row and "subgroup" in row]


def _sheet(pictures: list[np.ndarray], dropped_bits: int) -> bytes:
    """Pictures side by side as one lossless WebP."""
    rows = math.ceil(len(pictures) / SHEET_COLUMNS)
    sheet = np.full((rows * SIZE, SHEET_COLUMNS * SIZE, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        if dropped_bits:
            step = 1 << dropped_bits
            picture = np.minimum((picture.astype(int) + step // 2) // step * step, 255)
        y, x = divmod(i, SHEET_COLUMNS)
        sheet[y * SIZE : (y + 1) * SIZE, x * SIZE : (x + 1) * SIZE] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "WEBP", lossless=True, quality=100, method=6)
    return buffer.getvalue()


def _pictures(folder: Path, rows: list[dict]) -> tuple[list[dict], dict[str, list[np.ndarray]], dict[str, int]]:
    """Renders every emoji in every style; keeps those that all five styles have."""
    tables = {}
    for style in STYLES:
        # The glossy Fluent pack has no code points of its own; the flat one uses the same names.
        names = _read(folder, "fluent-flat" if style == "fluent" else style, "chars.json")
        tables[style] = (_read(folder, style, "icons.json"), {_code(code): name for code, name in names.items()})
    kept, pictures, failed = [], {style: [] for style in STYLES}, dict.fromkeys(STYLES, 0)
    for row in rows:
        code = _code(row["hexcode"])
        if any(code not in names for _, names in tables.values()):
            continue
        rendered = {style: _render(_svg(pack, names[code])) for style, (pack, names) in tables.items()}
        for style, picture in rendered.items():
            failed[style] += picture is None
        if all(picture is not None for picture in rendered.values()):
            kept.append(row)
            for style, picture in rendered.items():
                pictures[style].append(picture)
    return kept, pictures, failed


def _write(out: Path, files: dict[str, bytes]) -> None:
    """Writes all files, or none of them: nothing is replaced before everything is on the disk."""
    partial = {name: out / f"{name}.part" for name in files}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            partial[name].write_bytes(content)
        for name in files:
            os.replace(partial[name], out / name)
    except OSError as error:
        raise CourseError(
            f"the emoji cannot be written to {out} ({error}): free some space or choose another folder."
        ) from error
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def build(folder: Path | str, out: Path | str = DATA / "emoji") -> dict:
    """Renders the packs in ``folder`` and writes sheets, table and manifest to ``out``.

    Returns:
        The manifest: SHA-256 of every file, number of emoji, icons that did not render per style.

    Raises:
        CourseError: an archive is missing or unreadable, the renderer is not installed, or the disk is full.
    """
    folder, out = Path(folder), Path(out)
    groups = _read(folder, "emojibase", "meta/groups.json")
    rows = _flatten(_read(folder, "emojibase", "en/data.json"))
    keywords = _read(folder, "emojilib", "dist/emoji-en-US.json")
    kept, pictures, failed = _pictures(folder, rows)
    table = []
    for row in kept:
        code = _code(row["hexcode"])
        table.append(
            {
                "code": code,
                "base": base_code(code),
                "name": row["label"],
                "group": groups["groups"][str(row["group"])],
                "subgroup": groups["subgroups"][str(row["subgroup"])],
                **attributes_of(code),
                "captions": captions_of(row["label"], row.get("tags", []), keywords.get(row["emoji"], [])),
            }
        )
    assign_splits(table)
    files = {f"{style}.webp": _sheet(pictures[style], DROPPED_BITS.get(style, 0)) for style in STYLES}
    files["emoji.json"] = "\n".join(
        ["[", ",\n".join(json.dumps(row, ensure_ascii=False) for row in table), "]", ""]
    ).encode()
    manifest = {
        "count": len(table),
        "size": SIZE,
        "styles": list(STYLES),
        "not_rendered": failed,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    files["emoji.json.gz"] = gzip.compress(files.pop("emoji.json"), mtime=0)
    files["manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    _write(out, files)
    return manifest
