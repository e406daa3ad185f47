"""Folders of pictures: layouts, decoding, and every kind of bad input a learner can bring."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from course_lib.data import check_dataset, load, resize, to_float
from course_lib.data.files import FileSet, load_folder, read_image
from course_lib.data.image_set import evenly_spaced
from course_lib.errors import CourseError


def picture(path: Path, colour: object = "red", size: tuple[int, int] = (10, 10), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    picture(tmp_path / "pets/dog/b.png", "blue")
    picture(tmp_path / "pets/dog/a.jpg", "navy")
    picture(tmp_path / "pets/cat/nested/c.webp", "red", lossless=True)
    picture(tmp_path / "pets/cat/d.PNG", "lime")
    return tmp_path / "pets"


def test_classes_are_sub_folders_in_sorted_order(folder):
    data = load_folder(folder, 8)
    assert data.name == "pets" and data.images.shape == (4, 3, 8, 8) and data.images.dtype == torch.uint8
    assert data.classes == {"class": ["cat", "dog"], "domain": ["cat", "dog"]}
    assert data.labels["class"].tolist() == data.labels["domain"].tolist() == [0, 0, 1, 1]
    assert data.images[:, :, 4, 4].tolist()[:2] == [[0, 255, 0], [255, 0, 0]] and data.images[3, :, 4, 4].tolist() == [
        0,
        0,
        255,
    ]
    assert data.captions == [] and len(data.split) == 0
    assert torch.equal(load(f"folder:{folder}", 8).images, data.images)


def test_images_only_are_one_class(folder):
    data = load_folder(folder / "dog", 8)
    assert data.classes["class"] == ["dog"] and data.labels["class"].tolist() == [0, 0]


def test_hidden_files_are_passed_over(folder):
    for name in (
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        ".git/config",
        "__MACOSX/._a.png",
        "cat/._d.PNG",
        "cat/Thumbs.db",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0nothing")
    assert len(load_folder(folder, 8)) == 4


def test_current_folder_takes_its_real_name(folder, monkeypatch):
    monkeypatch.chdir(folder / "cat" / "nested")
    assert load_folder(".", 4).classes["class"] == ["nested"]


def test_split_folders(folder, tmp_path):
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            for kind in ("cat", "dog"):
                picture(tmp_path / f"set/{part}/{kind}/{i}.png")
    data = load_folder(tmp_path / "set", 4)
    assert data.classes["class"] == ["cat", "dog"]
    assert [len(data.part(part)) for part in ("train", "val", "test")] == [6, 4, 2]
    assert data.part("val").labels["class"].tolist() == [0, 0, 1, 1]


def test_split_folders_without_classes(tmp_path):
    picture(tmp_path / "set/Train/a.png")
    picture(tmp_path / "set/valid/a.png")
    data = load_folder(tmp_path / "set", 4)
    assert data.classes["class"] == ["set"] and data.split.tolist() == [0, 1]


def test_split_folders_of_two_kinds(tmp_path):
    picture(tmp_path / "set/train/cat/a.png")
    picture(tmp_path / "set/test/a.png")
    with pytest.raises(CourseError, match="test has no sub-folders for classes"):
        load_folder(tmp_path / "set", 4)


# Layout (a path and how many pictures) → classes and, where it has parts, their counts; or what the error says.
LAYOUTS = {
    "split and classes": ("train/a 3, train/b 3, test/a 1, test/b 1", ["a", "b"], [6, 0, 2]),
    "other names of parts": ("Training/a 2, valid/a 1, TESTING/a 1", ["a"], [2, 1, 1]),
    "unpaired": ("trainA 3, trainB 2, testA 1, testB 1", ["A", "B"], [5, 0, 2]),
    "unpaired, three parts": ("trainA 1, valA 1, testA 1, trainB 1", ["A", "B"], [2, 1, 1]),
    "unpaired by name": ("train_horse 2, train_zebra 2, test_horse 1, test_zebra 1", ["horse", "zebra"], [4, 0, 2]),
    "unpaired, only training": ("trainA 2, trainB 2", ["A", "B"], [4]),
    "classes that begin like parts": ("trains 2, testers 1, valley 1", ["testers", "trains", "valley"], None),
    "a class that looks joined": ("train_station 2, bus 1", ["bus", "train_station"], None),
    "nested classes": ("cat/indoor 1, cat/outdoor 2, dog 1", ["cat", "dog"], None),
    "composed names": ("train/e\u0301 2, test/\u00e9 1", ["\u00e9"], [2, 0, 1]),
    "long joined emoji": ("\U0001f469\u200d\U0001f680 1, b 1", ["b", "\U0001f469\u200d\U0001f680"], None),
    "part beside others": ("train/a 1, test/a 1, unlabeled 1", "parts test, train beside unlabeled", None),
    "part beside classes": ("train 1, cat 1, dog 1", "part train beside cat, dog", None),
    "unpaired beside others": ("trainA 1, testA 1, extra 1", "parts testA, trainA beside extra", None),
    "a level too high": ("set/train/a 1, set/test/a 1", "lies a level too high", None),
    "a level too high, two sets": ("one/train/a 1, two 1", "one holds the parts train", None),
    "a level too high, classes": ("set/a 1, set/b 1", "holds one folder, set, with the folders a, b", None),
    "one part twice": ("val/a 1, validation/a 1", "two folders for the part 'val'", None),
    "one joined part twice": ("trainA 1, train_A 1", "two folders for the part 'train' of 'A'", None),
    "a class without training": ("train/a 1, test/b 1", "'b' .* is in the part 'test' and not in 'train'", None),
    "domain without training": ("trainA 1, testA 1, testB 1", "'B' .* is in the part 'test' and not in 'train'", None),
    "empty part": ("train/a 1, test/a 0", "a has no images", None),
    "empty domain": ("trainA 1, testA 0", "has no images", None),
    "picture beside parts": ("train/a 1, test/a 1, . 1", "lies beside the parts", None),
    "name with a line break": ("a\nb 1, c 1", "rename it", None),
    "name with a blank": ("a 1, b\u0020 1", "rename it", None),
    "name of broken letters": ("a 1, \udcff 1", "rename it", None),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_as_meant_or_refused(tmp_path, name, capsys):
    layout, expected, parts = LAYOUTS[name]
    for entry in layout.split(", "):
        place, _, count = entry.rpartition(" ")
        (tmp_path / "mine" / place).mkdir(parents=True, exist_ok=True)
        for number in range(int(count)):
            picture(tmp_path / "mine" / place / f"{number}.png")
    if isinstance(expected, str):
        with pytest.raises(CourseError, match=expected) as caught:
            load_folder(tmp_path / "mine", 4)
        assert "\n" not in str(caught.value) and capsys.readouterr().out == ""
        return
    data = load_folder(tmp_path / "mine", 4)
    assert data.classes["class"] == expected
    assert (data.split.bincount().tolist() if len(data.split) else None) == (
        [count for k, count in enumerate(parts) if any(parts[k:])] if parts else None
    )
    said = capsys.readouterr().out
    counts = data.labels["class"].bincount().tolist()
    assert all(f"{label} {count}" in said for label, count in zip(expected, counts, strict=True))
    assert said.startswith(f"mine: {len(data)} pictures, ") and said.count("\n") == 1


def test_pipes_links_in_circles_and_endless_names(tmp_path, folder):
    (folder / "cat" / "round").symlink_to(folder)
    with pytest.raises(CourseError, match="link to a folder that holds it"):
        load_folder(folder, 8)
    (folder / "cat" / "round").unlink()
    os.mkfifo(folder / "cat" / "pipe.png")
    with pytest.raises(CourseError, match=r"pipe\.png is no file"):
        load_folder(folder, 8)
    for path in ("x" * 5000, "a\0b"):
        with pytest.raises(CourseError, match=r"cannot be opened|no folder"):
            load_folder(path, 8)


def test_a_set_is_known_by_its_content(folder, tmp_path):
    data = load_folder(folder, 8)
    shutil.copytree(folder, tmp_path / "elsewhere")
    moved = load_folder(tmp_path / "elsewhere", 8)
    assert moved.name != data.name and moved.content_hash() == data.content_hash()
    (tmp_path / "elsewhere/cat/d.PNG").rename(tmp_path / "elsewhere/dog/d.PNG")
    regrouped = load_folder(tmp_path / "elsewhere", 8)
    assert regrouped.content_hash() != data.content_hash()
    picture(folder / "cat/d.PNG", "blue")
    assert load_folder(folder, 8).content_hash(labels=False) != data.content_hash(labels=False)


def test_text_file_is_named(folder):
    (folder / "cat" / "notes.txt").write_text("cats are fine")
    with pytest.raises(CourseError, match=r"notes\.txt is not an image.*move it out") as caught:
        load_folder(folder, 8)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=60, deadline=None)
@given(suffix=st.sampled_from([".png", ".jpg", ".gif", ".webp", ".bmp", ".tif", ".npy"]), data=st.data())
def test_damaged_bytes_give_a_picture_or_a_course_error(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("damage") / f"x{suffix}"
    pixels = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)
    np.save(path, pixels) if suffix == ".npy" else Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_image(path, 6).shape == (3, 6, 6)
    except CourseError as error:
        assert path.name in str(error)


def test_missing_empty_and_wrong_paths(tmp_path, folder):
    with pytest.raises(CourseError, match=r"there is no folder .*nowhere"):
        load_folder(tmp_path / "nowhere", 8)
    with pytest.raises(CourseError, match=r"b\.png is a file: give the folder"):
        load_folder(folder / "dog" / "b.png", 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CourseError, match="empty has no images"):
        load_folder(tmp_path / "empty", 8)
    (folder / "cow").mkdir()
    with pytest.raises(CourseError, match="cow has no images"):
        load_folder(folder, 8)


def test_images_beside_sub_folders(folder):
    picture(folder / "stray.png")
    with pytest.raises(CourseError, match=r"stray\.png lies beside sub-folders"):
        load_folder(folder, 8)


def test_link_to_nothing(folder):
    (folder / "cat" / "gone.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(CourseError, match=r"gone\.png is missing"):
        load_folder(folder, 8)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_senseless_size(folder, size):
    with pytest.raises(CourseError, match="size of"):
        load_folder(folder, size)


def test_too_little_memory_says_how_many_fit(folder, monkeypatch):
    memory = namedtuple("memory", "available")
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory(1000))
    with pytest.raises(CourseError, match="max_images=4"):
        FileSet("big", [Path("x.png")] * 9).load(8)


def test_max_images_are_spread_over_the_classes(folder):
    data = load_folder(folder, 8, max_images=2)
    assert data.labels["class"].tolist() == [0, 1]
    with pytest.raises(CourseError, match="max_images=0"):
        load_folder(folder, 8, max_images=0)


@given(count=st.integers(1, 500), at_most=st.integers(1, 600))
def test_spread_is_rising_and_as_long_as_asked(count, at_most):
    index = evenly_spaced(count, at_most)
    assert len(index) == min(count, at_most) and index[0] == 0 and index[-1] < count
    assert (index.diff() >= 1).all()


def test_shortest_side_and_centre(tmp_path):
    pixels = np.zeros((20, 50, 3), np.uint8)
    pixels[:, 15:35] = (10, 200, 30)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2).copy()).save(tmp_path / "tall.png")
    for name in ("wide.png", "tall.png"):
        for size in (20, 5, 40):
            image = read_image(tmp_path / name, size)
            assert (image == torch.tensor([10, 200, 30]).view(3, 1, 1)).all()
    assert (read_image(tmp_path / "wide.png", 20, crop=10) == read_image(tmp_path / "wide.png", 20)).all()


def test_shrinking_is_the_course_resize(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    full = to_float(read_image(tmp_path / "noise.png", 32)[None])
    for size in (16, 8, 4):
        small = to_float(read_image(tmp_path / "noise.png", size)[None])
        torch.testing.assert_close(small, resize(full, size), atol=1.01 / 127.5, rtol=0)  # one grey level of rounding
    checks = np.indices((32, 32)).sum(0) % 2 * 255
    Image.fromarray(np.repeat(checks[..., None], 3, 2).astype(np.uint8)).save(tmp_path / "checks.png")
    assert set(read_image(tmp_path / "checks.png", 16).unique().tolist()) <= {127, 128}  # no aliasing


@pytest.mark.parametrize("shape", [(1, 3, 12, 12), (3, 12, 12), (12, 12, 3)])
def test_arrays_are_images_too(tmp_path, shape):
    values = np.broadcast_to(np.array([5, 100, 250], np.uint8), (12, 12, 3))
    array = values if shape[-1] == 3 else values.transpose(2, 0, 1).reshape(shape)
    np.save(tmp_path / "imgHQ00000.npy", array)
    assert read_image(tmp_path / "imgHQ00000.npy", 6)[:, 3, 3].tolist() == [5, 100, 250]


def test_arrays_that_are_no_images(tmp_path):
    np.save(tmp_path / "float.npy", np.zeros((3, 8, 8), np.float32))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CourseError, match=r"float\.npy.*float32 \(3, 8, 8\) instead of uint8"):
        read_image(tmp_path / "float.npy", 4)
    with pytest.raises(CourseError, match=r"objects\.npy cannot be read"):
        read_image(tmp_path / "objects.npy", 4)


def test_folders_show_progress(folder, monkeypatch):
    asked = []
    bar = "course_lib.data.files.progress_bar"
    monkeypatch.setattr(bar, lambda iterable, total, **_: asked.append(total) or iterable)
    load_folder(folder, 8)
    assert asked == [4]


@pytest.mark.parametrize("name", ["", "emojis", "folder", "folder:", "cifar10", "cifar10:", "emoji:x", "imagenet:x"])
def test_unknown_names_list_what_there_is(name):
    with pytest.raises(CourseError, match=r"use people, kinds, digits, folder:PATH, or one of cifar10:PATH"):
        load(name)
    with pytest.raises(CourseError, match=r"use people, kinds, digits, folder:PATH"):
        check_dataset(name)
