"""The recipe of the bundled set, on a miniature of the seven archives."""

import errno
import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import course_lib.data.build_emoji as module
from course_lib.data import load_emoji
from course_lib.data.build_emoji import ARCHIVES, SIZE, STYLES, _sheet, build
from course_lib.data.emoji import _unpack_sheet
from course_lib.errors import CourseError

# Three emoji, one of them with a skin tone; a fourth that only some packs have.
NAMES = {"1F600": "grinning", "1F44B": "wave", "1F44B-1F3FF": "wave-dark", "1F680": "rocket"}
COLOURS = {"noto": "#123456", "twemoji": "#fa0", "openmoji": "#00ff80", "fluent": "#777", "fluent-flat": "#81c"}


COLUMNS = 4


@pytest.fixture(autouse=True, scope="module")
def narrow_sheets():
    """Sheets of four columns instead of 64: lossless compression takes most of a build's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SHEET_COLUMNS", COLUMNS)
        yield


def archive(path: Path, members: dict[str, object]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    folder = tmp_path / "packs"
    folder.mkdir()
    for k, (style, colour) in enumerate(COLOURS.items()):
        shapes = {
            name: {"body": f'<circle cx="{8 + 3 * i}" cy="16" r="{4 + k + i}" fill="{colour}"/>'}
            for i, name in enumerate(NAMES.values())
        }
        if style == "noto":
            shapes["wave"]["left"] = 4
        if style == "openmoji":
            del shapes["rocket"]
        icons = {"icons": shapes, "width": 32, "height": 32, "aliases": {}}
        if style == "twemoji":
            icons["aliases"]["wave"] = {"parent": "hand"}
            shapes["hand"] = shapes.pop("wave")
        members: dict[str, object] = {"icons.json": icons}
        if style != "fluent":
            codes = {code.lower() + ("-fe0f" if style == "noto" else ""): name for code, name in NAMES.items()}
            members["chars.json"] = codes
        archive(folder / ARCHIVES[style], members)

    def row(code: str, label: str, emoji: str, **more: object) -> dict:
        return {"hexcode": code, "label": label, "emoji": emoji, "group": 0, "subgroup": 1, "tags": ["sign"], **more}

    rows = [
        row("1F600", "grinning face", "😀"),
        row("1F44B", "waving hand", "👋", skins=[row("1F44B-1F3FF", "waving hand: dark skin tone", "👋🏿")]),
        row("1F680", "rocket", "🚀"),
        {"hexcode": "1F1E6", "label": "regional indicator", "emoji": "🇦"},
    ]
    groups = {"groups": {"0": "things"}, "subgroups": {"1": "some-things"}}
    archive(folder / ARCHIVES["emojibase"], {"en/data.json": rows, "meta/groups.json": groups})
    archive(folder / ARCHIVES["emojilib"], {"dist/emoji-en-US.json": {"😀": ["happy_smile"]}})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def test_two_builds_give_the_same_bytes_and_open_again(packs, tmp_path, monkeypatch):
    first, second = build(packs, tmp_path / "a"), build(packs, tmp_path / "b")
    assert first == second and contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first["count"] == 3 and first["not_rendered"] == dict.fromkeys(STYLES, 0) | {"openmoji": 1}
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    emoji = load_emoji(tmp_path / "a")
    assert emoji.images.shape == (15, 3, SIZE, SIZE)
    assert emoji.classes["emoji"] == ["grinning face", "waving hand", "waving hand: dark skin tone"]
    assert emoji.classes["subgroup"] == ["some-things"] and emoji.classes["group"] == ["things"]
    assert emoji.labels["base"][:3].unique().numel() == 2
    assert emoji.caption(0, 3) == "grinning face with happy smile"
    # The middle of the circle has the pack's colour; the glossy pack's is rounded to steps of four.
    assert emoji.images[0, :, 32, 16].tolist() == [0x12, 0x34, 0x56]
    assert emoji.images[1 * 3, :, 32, 16].tolist() == [0xFF, 0xAA, 0x00]
    assert emoji.images[3 * 3, :, 32, 16].tolist() == [0x78] * 3
    assert (emoji.images[:, :, 0, 0] == 255).all()


def test_missing_archive_says_which_and_how(packs, tmp_path):
    (packs / ARCHIVES["openmoji"]).unlink()
    with pytest.raises(CourseError, match=f"{ARCHIVES['openmoji']} is missing.*npm pack"):
        build(packs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:40] + b"x" * 40 + b[80:]])
def test_damaged_archive(packs, tmp_path, damage):
    path = packs / ARCHIVES["emojibase"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CourseError, match=f"{ARCHIVES['emojibase']} cannot be read"):
        build(packs, tmp_path / "out")


def test_full_disk_keeps_the_files_that_were_there(packs, tmp_path, monkeypatch):
    out = tmp_path / "out"
    build(packs, out)
    before, real, writes = contents(out), Path.write_bytes, []

    def full(path: Path, content: bytes) -> int:
        writes.append(path)
        if len(writes) > 3:
            real(path, content[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CourseError, match=r"No space left on device.*free some space"):
        build(packs, out)
    monkeypatch.undo()
    assert contents(out) == before


def test_missing_renderer_says_how_to_install_it(packs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(CourseError, match="pip install"):
        build(packs, tmp_path / "out")


@settings(max_examples=12, deadline=None)
@given(
    tiles=arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(4), st.just(4), st.just(3))),
    dropped=st.sampled_from([0, 2]),
)
def test_sheet_round_trip(tmp_path_factory, tiles, dropped):
    pictures = [np.kron(tile, np.ones((SIZE // 4, SIZE // 4, 1), np.uint8)) for tile in tiles]
    path = tmp_path_factory.mktemp("sheet") / "sheet.webp"
    path.write_bytes(_sheet(pictures, dropped))
    back = _unpack_sheet(path, len(pictures), SIZE).transpose(0, 2, 3, 1)
    error = np.abs(back.astype(int) - np.stack(pictures)).max()
    assert error <= (0 if dropped == 0 else 2)


def test_a_sheet_wraps_after_its_last_column():
    from PIL import Image

    pictures = [np.full((SIZE, SIZE, 3), i, np.uint8) for i in range(COLUMNS + 1)]
    sheet = Image.open(io.BytesIO(_sheet(pictures, 0)))
    assert sheet.size == (COLUMNS * SIZE, 2 * SIZE)
    assert sheet.getpixel((0, SIZE)) == (COLUMNS,) * 3 and sheet.getpixel((SIZE, SIZE)) == (255,) * 3


def test_an_icon_the_renderer_refuses_counts_as_not_rendered():
    assert module._render("<svg") is None and module._render(None) is None
    blank = module._render('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"/>')
    assert blank is None
