"""The avatars: every attribute in every style is drawn where it should be and only there; the cache and its faults."""

import errno
import json
import re
from concurrent.futures.process import BrokenProcessPool
from importlib.resources import files
from itertools import combinations as pairs
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from course_lib.data import KINDS, NEW_KINDS, OLD_KINDS, few_per_class, load, load_kinds, load_people, people_parts
from course_lib.data import avatars as module
from course_lib.data import people as table
from course_lib.data.people import ATTRIBUTES, PARTS, STYLES, Person, captions, combinations, draw, draw_parts
from course_lib.errors import CourseError
from course_lib.profiles import DATA

BASE = Person("tan", "pink", "short", "no", "smile", "someone")
every_style = pytest.mark.parametrize("style", STYLES)


def changed(style, **values):
    """Which pixels differ from those of BASE: ``bool (64, 64)``."""
    other = Person(**(vars(BASE) | values))
    return np.abs(draw(other, style).astype(int) - draw(BASE, style)).max(-1) > 24


def grown(mask):
    """The mask and a pixel around it: edges are smooth, so a part colours its neighbours a little."""
    padded = np.pad(mask, 1)
    return np.any([padded[y : y + 64, x : x + 64] for y in range(3) for x in range(3)], 0)


def box(mask):
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


@every_style
def test_every_value_is_drawn_and_no_two_look_alike(style):
    for attribute, values in ATTRIBUTES.items():
        values = [value for value in values if value != "none"]
        drawn = [draw(Person(**(vars(BASE) | {attribute: value})), style).astype(int) for value in values]
        for (first, a), (second, b) in pairs(zip(values, drawn, strict=True), 2):
            differing = (np.abs(a - b).max(-1) > 24).sum()
            assert differing >= 8, f"{style}: {attribute} {first} and {second} differ in {differing} pixels"


@every_style
def test_what_changes_changes_only_there(style):
    parts = draw_parts(BASE, style, draw(BASE, style))
    hair, skin = parts == PARTS.index("hair"), parts == PARTS.index("skin")
    recoloured = changed(style, hair="blue")
    assert (recoloured & hair).sum() > 0.9 * hair.sum()
    # A shadow or a light line over hair takes on some of its colour.
    assert (recoloured & ~grown(hair)).sum() <= 0.05 * recoloured.sum() + 4
    toned = changed(style, skin="dark")
    assert (toned & skin).sum() > 0.9 * skin.sum() and not (toned & (parts == 0) & ~grown(skin)).any()
    top, bottom, _, _ = box(skin)
    mouth, glasses = changed(style, mouth="sad"), changed(style, glasses="yes")
    assert mouth.sum() < 400 and box(mouth)[0] > top + 0.35 * (bottom - top), "a mouth is in the lower face"
    assert not mouth[:, :4].any() and box(glasses)[0] >= top - 2
    if style != "personas":  # there glasses are a kind of eyes
        assert glasses.sum() < 600


def test_glasses_lie_above_the_mouth():
    for style in STYLES:
        assert box(changed(style, glasses="yes"))[0] < box(changed(style, mouth="sad"))[0]


def test_only_the_bald_have_no_hair_colour():
    all_of_them = combinations()
    assert len(all_of_them) == len(set(all_of_them)) == 990
    assert all((hair == "none") == (cut == "bald") for _, hair, cut, *_ in all_of_them)


def test_the_split_holds_out_whole_combinations():
    people = load_people()
    count = len(people) // len(STYLES)
    assert count >= 2500 and len(people.images) == count * len(STYLES)
    keys = list(zip(*(people.labels[name][:count].tolist() for name in ATTRIBUTES), strict=True))
    parts = [{key for key, part in zip(keys, people.split.tolist(), strict=False) if part == k} for k in range(3)]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert 0.09 < (people.split == 1).float().mean() < 0.11 and 0.09 < (people.split == 2).float().mean() < 0.11
    for name, values in ATTRIBUTES.items():
        for part in range(3):
            assert torch.bincount(people.labels[name][people.split == part], minlength=len(values)).min() > 0


def test_the_same_person_in_every_style_is_a_row():
    people = load_people()
    rows = people.labels["person"].view(len(STYLES), -1)
    assert (rows == rows[0]).all() and people.classes["style"] == people.classes["domain"] == list(STYLES)
    for name in ATTRIBUTES:
        values = people.labels[name].view(len(STYLES), -1)
        assert (values == values[0]).all()


def test_pictures_in_the_cache_are_those_that_are_drawn():
    people, parts = load_people(), people_parts()
    persons, _ = table.people()
    for number in (0, 1234, 3179):
        for k, style in enumerate(STYLES):
            row = k * len(persons) + number
            picture = draw(persons[number], style)
            assert np.abs(people.images[row].permute(1, 2, 0).numpy().astype(int) - picture).max() <= 2
            assert (parts[row].numpy() == draw_parts(persons[number], style, picture)).mean() > 0.99
    assert set(parts.unique().tolist()) == set(range(len(PARTS)))


def test_captions_name_every_attribute_and_nothing_that_is_not_drawn():
    person = Person("dark", "pink", "long", "yes", "laugh")
    for caption in captions(person):
        for word in ("dark skin", "pink", "long", "glasses", "laugh"):
            assert word in caption
        assert not re.search(r"\b(he|she|man|woman|boy|girl)\b", caption)
    bare = captions(Person("pale", "none", "bald", "no", "sad"))
    assert len(set(bare)) == len(bare) >= 6 and all("no hair" in text and "sad" in text for text in bare)
    assert all("no glasses" in text or "without glasses" in text for text in bare)


def test_kinds_are_many_and_some_are_kept_apart():
    kinds = load_kinds()
    assert len(OLD_KINDS) + len(STYLES) >= 22 and len(NEW_KINDS) == 8 and len(KINDS) >= 30
    assert torch.equal(torch.bincount(kinds.labels["kind"]), torch.full((len(KINDS) + len(STYLES),), 400))
    for count in (20, 50, 200):
        few = few_per_class(kinds.part("train"), count)
        assert torch.equal(torch.bincount(few.labels["class"]), torch.full((len(KINDS) + len(STYLES),), count))
    # A border of white, but for kinds whose background is the thing.
    white = [kind for kind, options in KINDS.items() if options]
    for kind in ("cameo", "planets", "icons"):
        assert kind in white and (kinds.where(kind=kind).images[:, :, 0] > 250).float().mean() > 0.9


def test_names_open_the_sets():
    assert load("people") is load_people() and load("kinds") is load_kinds()


def test_only_free_styles_are_used_and_each_is_credited():
    text = (DATA / "LICENSES.md").read_text(encoding="utf-8")
    for style in [*STYLES, *KINDS]:
        meta = json.loads(files("dicebear_styles").joinpath(f"{style}.json").read_text("utf-8"))["meta"]
        assert meta["license"]["name"] in ("CC0 1.0", "CC BY 4.0", "MIT"), style
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{style}` |")]
        for wanted in (
            meta["source"]["name"],
            meta["creator"]["name"],
            meta["license"]["name"],
            meta["license"]["url"],
        ):
            assert wanted in line, f"{style}: {wanted}"
        assert meta["source"].get("url", meta["creator"].get("url", "")) in line


# --- the cache ----------------------------------------


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Four people in two styles as the whole set, in a cache of its own."""
    persons, _ = table.people()
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "FOLDER", tmp_path / "data")
    jobs = module._people_jobs(persons[:4], ("personas", "micah"))
    monkeypatch.setattr(module, "BLOCKS", {"people": (module._draw_pictures, lambda: jobs, 3)})
    module.record()
    return tmp_path / "cache"


def test_drawing_twice_gives_the_same_file(small):
    path = module.build("people")
    first = path.read_bytes()
    assert module.build("people", again=True).read_bytes() == first and module.check() == {"people": "right"}


def test_a_corrupt_file_is_drawn_again_with_one_line(small, capsys):
    path = module.build("people")
    right = path.read_bytes()
    path.write_bytes(right[:5000] + bytes(5000) + right[10000:])
    assert module.check() == {"people": "damaged"}
    assert module.build("people").read_bytes() == right
    assert capsys.readouterr().out == "the file of people in the cache is damaged: drawing it again\n"
    path.write_bytes(right[:-1])
    assert module.build("people").read_bytes() == right


def test_another_rounding_is_accepted_and_other_pictures_are_not(small):
    path = module.build("people")
    pixels = np.frombuffer(path.read_bytes(), np.uint8)
    path.write_bytes(np.where(pixels < 255, pixels + 1, pixels).astype(np.uint8).tobytes())
    assert module.check() == {"people": "right"}
    path.write_bytes((255 - pixels).tobytes())
    assert module.check() == {"people": "damaged"}


def test_a_package_of_another_version_is_named(small, monkeypatch):
    module.build("people").unlink()
    monkeypatch.setattr(module, "distributions", lambda name: [SimpleNamespace(version="9.9")])
    with pytest.raises(CourseError, match=r"dicebear-core .* 9\.9 is installed"):
        module.build("people")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (KeyboardInterrupt(), "was stopped"),
        (BrokenProcessPool(), "lost a worker process.*__main__"),
    ],
)
def test_a_full_disk_or_an_interruption_leaves_nothing_half_built(small, monkeypatch, fault, words):
    module.build("people").unlink()

    def fails(jobs):
        raise fault

    monkeypatch.setitem(module.BLOCKS, "people", (fails, *module.BLOCKS["people"][1:]))
    with pytest.raises(CourseError, match=words):
        module.build("people")
    assert not [path for path in Path(small).iterdir() if path.suffix in (".part", ".u8")]


def test_a_missing_manifest_says_how_to_get_it_back(small):
    (module.FOLDER / "manifest.json").unlink()
    with pytest.raises(CourseError, match="git checkout data"):
        module.build("people")
