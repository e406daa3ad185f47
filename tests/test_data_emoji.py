"""The bundled set: what the data card promises, and what happens when a file is damaged or the disk is full."""

import errno
import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch

from course_lib.data import ImageSet, check_files, load, load_emoji
from course_lib.data.emoji import FOLDER
from course_lib.data.splits import SPLITS
from course_lib.errors import CourseError


@pytest.fixture(scope="module")
def emoji() -> ImageSet:
    return load_emoji()


@pytest.fixture(scope="module")
def table() -> list[dict]:
    return json.loads(gzip.decompress((FOLDER / "emoji.json.gz").read_bytes()))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled files with a cache of its own."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(FOLDER, tmp_path / "emoji"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_counts_and_shapes(emoji):
    assert emoji.images.shape == (5 * 3125, 3, 64, 64) and emoji.images.dtype == torch.uint8
    assert emoji.classes["style"] == ["noto", "twemoji", "openmoji", "fluent", "fluent-flat"]
    assert torch.equal(emoji.labels["style"].bincount(), torch.full((5,), 3125))
    assert torch.equal(emoji.labels["style"], emoji.labels["domain"])
    assert len(emoji.classes["group"]) == 9 and len(emoji.classes["subgroup"]) == 95
    assert len(emoji.classes["base"]) == 1409
    for name, values in emoji.labels.items():
        assert values.shape == (len(emoji),) and values.dtype == torch.int64
        assert values.min() >= 0 and values.max() < len(emoji.classes[name])
    assert len(emoji.captions) == len(emoji.split) == len(emoji)


def test_files_match_their_hashes():
    assert check_files()["count"] == 3125


def test_cache_holds_what_the_sheets_hold(emoji):
    from PIL import Image

    sheet = torch.frombuffer(bytearray(Image.open(FOLDER / "noto.webp").convert("RGB").tobytes()), dtype=torch.uint8)
    sheet = sheet.view(-1, 64 * 64, 3)
    for i in (0, 63, 64, 1000, 3124):
        y, x = divmod(i, 64)
        tile = sheet[y * 64 : y * 64 + 64, x * 64 : x * 64 + 64].permute(2, 0, 1)
        assert torch.equal(tile, emoji.images[i])


def test_every_picture_is_drawn_and_on_white(emoji):
    darkest = emoji.images.flatten(1).amin(1)
    assert darkest.max() < 250
    corners = emoji.images[:, :, ::63, ::63].flatten(1)
    assert (corners > 240).all(1).float().mean() > 0.95  # a few flags and squares reach the corners


def test_splits_have_the_promised_sizes_and_share_no_base(emoji, table):
    counts = {split: sum(row["split"] == split for row in table) for split in SPLITS}
    assert counts == {"train": 2554, "val": 274, "test": 297}
    base = {split: {row["base"] for row in table if row["split"] == split} for split in SPLITS}
    assert not base["train"] & base["val"] | base["train"] & base["test"] | base["val"] & base["test"]
    for split, count in counts.items():
        assert len(emoji.part(split)) == 5 * count


def test_pairs_are_the_same_emoji_in_another_style(emoji):
    noto, flat = emoji.where(style="noto"), emoji.where(style="fluent-flat")
    for name in ("emoji", "subgroup", "base", "skin_tone"):
        assert torch.equal(noto.labels[name], flat.labels[name])
    assert noto.captions == flat.captions and torch.equal(noto.split, flat.split)
    # The picture of the same emoji is nearer than that of another one.
    a, b = noto.batch(torch.arange(3125), 8).flatten(1), flat.batch(torch.arange(3125), 8).flatten(1)
    same, other = (a - b).square().mean(), (a - b.roll(500, 0)).square().mean()
    assert same < 0.75 * other


def test_captions_are_several_and_begin_with_the_name(emoji, table):
    for row in table:
        assert 2 <= len(row["captions"]) == len(set(row["captions"])) and row["captions"][0] == row["name"]
    assert emoji.caption(0) == "grinning face" and emoji.caption(0, 4) == emoji.caption(0)
    assert emoji.caption(0, 1).startswith("grinning face, cheerful")


@pytest.mark.parametrize("name", ["noto.webp", "fluent-flat.webp", "emoji.json.gz"])
def test_one_flipped_byte_is_found_and_nothing_is_written(copy, tmp_path, name):
    damaged = bytearray((copy / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (copy / name).write_bytes(damaged)
    before = contents(copy)
    with pytest.raises(CourseError, match=f"{name} is damaged .*git checkout data"):
        load_emoji(copy)
    with pytest.raises(CourseError, match=name):
        check_files(copy)
    assert contents(copy) == before and contents(tmp_path / "cache") == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"count": 3125}'])
def test_broken_manifest(copy, content):
    (copy / "manifest.json").write_text(content)
    with pytest.raises(CourseError, match=r"manifest\.json is missing or damaged.*git checkout data"):
        load_emoji(copy)


@pytest.mark.parametrize("name", ["manifest.json", "twemoji.webp", "emoji.json.gz"])
def test_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(CourseError, match=f"{name} is missing"):
        load_emoji(copy)


def test_table_is_checked_even_when_the_pictures_are_cached(copy, emoji, monkeypatch):
    monkeypatch.delenv("COURSE_CACHE")
    text = gzip.decompress((copy / "emoji.json.gz").read_bytes())
    (copy / "emoji.json.gz").write_bytes(gzip.compress(text.replace(b"grinning face", b"grimming face")))
    with pytest.raises(CourseError, match=r"emoji\.json\.gz is damaged"):
        load_emoji(copy)


def test_full_disk_gives_one_line_and_leaves_no_partial_file(copy, tmp_path, monkeypatch):
    import course_lib.data.emoji as module

    class FullFile:
        """A file that takes one style and then finds the disk full."""

        def __init__(self, file):
            self.file, self.writes = file, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.writes += 1
            if self.writes > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content)

    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda p, mode="r", *a, **k: FullFile(real(p, mode)) if "w" in mode else real(p, mode, *a, **k)
    )
    monkeypatch.setattr(module, "check_files", lambda folder: None)
    before = contents(copy)
    with pytest.raises(CourseError, match=r"No space left.*COURSE_CACHE") as caught:
        load_emoji(copy)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path / "cache") == {} and contents(copy) == before


def test_cache_folder_that_cannot_be_made(copy, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "file"))
    with pytest.raises(CourseError, match="COURSE_CACHE"):
        load_emoji(copy)


def test_writing_to_the_images_never_reaches_the_cache(emoji):
    kept = emoji.images[7].clone()
    try:
        emoji.images[7] = 0
        from course_lib.data.emoji import _decoded

        assert torch.equal(_decoded(FOLDER)[7], kept)
    finally:
        emoji.images[7] = kept


def test_load_by_name_is_the_same_set(emoji):
    assert load("emoji") is emoji
