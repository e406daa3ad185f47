"""Data of one's own: what is refused before training, and every recipe on small files in the true formats."""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_torchvision import write_celeba, write_coco
from typer.testing import CliRunner

from course_lib import cli, recipes
from course_lib.data import own_pictures, write_photographs
from course_lib.data import published as own
from course_lib.errors import CourseError
from course_lib.experts import load_expert
from course_lib.profiles import CHECKPOINTS, Profile
from course_lib.recipes import own as own_recipes
from course_lib.recipes.recipe import Job

SMALL = {"hidden_dim": 4, "blocks": 2}


def draw(folder, count, side=70, grey=False, seed=0):
    """Noise on a gradient, as PNG files."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for k in range(count):
        pixels = random.integers(0, 60, (side, side, 1 if grey else 3)) + np.linspace(0, 180, side)[:, None, None]
        Image.fromarray(np.broadcast_to(pixels, (side, side, 3)).astype(np.uint8)).save(folder / f"{k:03}.png")
    return folder


@pytest.fixture
def two_classes(tmp_path):
    draw(tmp_path / "set" / "apples", 50)
    draw(tmp_path / "set" / "pears", 40, seed=1)
    return tmp_path / "set"


@pytest.fixture
def few_steps(tmp_path, monkeypatch):
    """Options of a run of two steps whose results lie in a folder of the test."""
    monkeypatch.setattr(own_recipes, "_SCORED", 6)
    for name, spec in own_recipes.TRANSLATORS.items():
        monkeypatch.setitem(own_recipes.TRANSLATORS, name, own_recipes.replace(spec, sizes=SMALL))
    label_flow = own_recipes.label_flow
    monkeypatch.setattr(own_recipes, "label_flow", lambda *given, **sizes: label_flow(*given, **(sizes | SMALL)))
    return {"profile": "quick", "steps": 2, "out": tmp_path / "out", "work": tmp_path / "work"}


# --- the stand-in, and what is refused --------------------------------------------------------------------------------


def test_photographs_are_the_same_every_time_and_parts_do_not_overlap(tmp_path):
    hashes = []
    for name in ("a", "b"):
        folder = write_photographs(tmp_path / name, train=6, test=3)
        files = sorted(folder.rglob("*.jpg"))
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
        assert len(files) == 18 and Image.open(files[0]).size == (128, 128)
    assert hashes[0] == hashes[1]
    random = np.random.default_rng(1)
    for low, high in own._STRIPS.values():
        for inside in (True, False):
            boxes = [own._box(random, (640, 427), (low, high), inside) for _ in range(200)]
            assert all(
                top >= 0 and bottom <= 427 and right - left == bottom - top for left, top, right, bottom in boxes
            )
            held = [low <= left and right <= high for left, _, right, _ in boxes]
            clear = [right <= low or left >= high for left, _, right, _ in boxes]
            assert all(held) if inside else all(clear)


def test_missing_parts_are_taken_from_training_and_small_pictures_left_out(tmp_path, two_classes, capsys):
    data = own_pictures(f"folder:{two_classes}")
    assert data.split.bincount().tolist() == [72, 9, 9]
    assert "apples 50, pears 40" in capsys.readouterr().out
    draw(tmp_path / "parts" / "train", 70)
    draw(tmp_path / "parts" / "test", 5, seed=2)
    draw(tmp_path / "small", 3, side=40)
    for path in (tmp_path / "small").iterdir():
        path.rename(tmp_path / "parts" / "train" / f"small-{path.name}")
    data = own_pictures(f"folder:{tmp_path / 'parts'}")
    assert data.split.bincount().tolist() == [63, 7, 5]
    assert "3 smaller than 64 px left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda path: draw(path, 20), {}, "has 16 training pictures, at least 50"),
        (lambda path: draw(path, 70, side=40), {}, "no picture of 'set' has 64 pixels"),
        (lambda path: draw(path, 70), {"size": 128}, "no picture of 'set' has 128 pixels"),
        (lambda path: draw(path, 70), {"size": 100}, "choose 64 or 128"),
        (lambda path: draw(path, 70, grey=True), {"colour": True}, "have no colour"),
        (lambda path: (draw(path, 70) / "000.png").write_text("<html>"), {}, r"000\.png cannot be read as an image"),
        (lambda path: None, {}, "there is no folder"),
    ],
    ids=["few", "small", "small for 128", "size", "grey", "text", "missing"],
)
def test_a_set_that_cannot_be_trained_on_is_one_line(tmp_path, make, options, words):
    make(tmp_path / "set")
    with pytest.raises(CourseError, match=words):
        own_pictures(f"folder:{tmp_path / 'set'}", **options)


def test_grey_pictures_are_fine_where_colour_is_not_asked_for(tmp_path):
    assert len(own_pictures(f"folder:{draw(tmp_path / 'set', 70, grey=True)}")) == 70
    with pytest.raises(CourseError, match="drawn at 64 pixels"):
        own_pictures("people", 128)


# --- recipes ----------------------------------------------------------------------------------------------------------


def shipped():
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in CHECKPOINTS.iterdir()}


@pytest.mark.parametrize("size", [64, 128])
def test_a_folder_trains_an_autoencoder_and_translators(tmp_path, few_steps, size):
    before, place = shipped(), draw(tmp_path / "set", 70, side=size)
    given = few_steps | {"dataset": f"folder:{place}", "size": size}
    with pytest.raises(CourseError, match=r"first run `course train avatar-autoencoder -p dataset=folder:\S+"):
        recipes.train("colourisation", **given)
    card = recipes.train("avatar-autoencoder", **given)
    assert card.config["size"] == size and len(card.config["scale"]) == 16
    assert {"PSNR (dB) on val", "PSNR (dB) on test", "PSNR (dB) of the start on val"} <= set(card.metrics)
    for name in ("colourisation", "superresolution-8"):
        card = recipes.train(name, **given)
        assert card.steps == 2 and {"nats per picture on val", "consistency on test"} <= set(card.metrics)
        translator = own_recipes.load_own_translator(name, few_steps["out"])
        pictures = torch.rand(2, 3, size, size) * 2 - 1
        assert translator.translate(pictures, 2).shape == (2, 2, 3, size, size)
    assert translator.source.size == size // 8, "an eighth of the side, as for the bundled pictures"
    assert shipped() == before


def test_weights_for_64_pixels_start_a_network_for_128(tmp_path):
    data = own_pictures(f"folder:{draw(tmp_path / 'set', 70, side=128)}", 128)
    method = own_recipes._OwnAutoencoderMethod(data.part("train"), 128)
    ours, theirs = method.modules["autoencoder"].state_dict(), load_expert("avatar-autoencoder").state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    images = method.batch(torch.arange(4), torch.Generator().manual_seed(0))
    assert images.shape == (4, 3, 128, 128) and method.config.side == 16


def test_folders_train_a_classifier_and_an_unpaired_translator(two_classes, few_steps):
    given = few_steps | {"dataset": f"folder:{two_classes}"}
    card = recipes.train("avatar-classifier", **given)
    assert card.config["heads"] == {"domain": 2} and "mean accuracy on test" in card.metrics
    assert load_expert("avatar-classifier", folder=few_steps["out"]).config.width == 24
    recipes.train("avatar-autoencoder", **given)
    assert recipes.train("people-labels", **given).recipe["classes"] == {"domain": ["apples", "pears"]}
    translator = own_recipes.load_own_translator("people-labels", few_steps["out"])
    moved = translator.under_every_label(torch.zeros(2, 3, 64, 64), torch.tensor([0, 1]))
    assert moved.shape == (2, 2, 3, 64, 64)


def test_one_folder_is_no_classes(tmp_path, few_steps):
    with pytest.raises(CourseError, match="one class only"):
        recipes.train("avatar-classifier", dataset=f"folder:{draw(tmp_path / 'set', 70)}", **few_steps)


def test_celeba_trains_a_classifier_of_its_attributes(tmp_path, monkeypatch, few_steps):
    place = write_celeba(tmp_path / "files", monkeypatch, [0] * 60 + [1] * 6 + [2] * 6)
    card = recipes.train("avatar-classifier", dataset=f"celeba:{place}", **few_steps)
    # Only what tells pictures apart, each once: in the small files every third attribute is the same.
    assert "Smiling" not in card.config["heads"] or card.config["heads"]["Smiling"] == 2
    assert len(card.config["heads"]) == 3 and set(card.config["heads"].values()) == {2}


def test_coco_trains_from_captions(tmp_path, monkeypatch, few_steps):
    class Memory:
        condition_shape = (5,)

        def __init__(self, device="cpu"):
            pass

        def encode(self, x):
            return torch.tensor([[float(len(text) % (k + 2)) for k in range(5)] for text in x])

        learn = encode

    monkeypatch.setattr(own_recipes, "SentenceExpert", Memory)
    place = write_coco(tmp_path / "files", "2017", {"train": 60, "val": 8}, (70, 66))
    given = few_steps | {"dataset": f"coco:{place}"}
    recipes.train("avatar-autoencoder", **given)
    assert "nats per picture on test" in recipes.train("text-to-people", **given).metrics
    translator = own_recipes.load_own_translator("text-to-people", few_steps["out"])
    assert translator.translate(["a picture"], 2).shape == (1, 2, 3, 64, 64)
    with pytest.raises(CourseError, match="has no captions"):
        recipes.train("text-to-people", **given | {"dataset": f"folder:{draw(tmp_path / 'set', 70)}"})


def test_results_have_a_folder_of_their_own(tmp_path):
    job = Job(Profile("quick"), work=tmp_path / "train", dataset=f"folder:{tmp_path / 'My Pictures'}", size=128)
    found = own_recipes.own_job(job).out
    assert found.parent == tmp_path / "own" and found.name.startswith("folder-my-pictures-")
    assert found.name.endswith("-128")
    other = own_recipes.replace(job, dataset=f"folder:{tmp_path / 'x' / 'My Pictures'}")
    assert own_recipes.own_job(other).out != found
    with pytest.raises(CourseError, match="never replaces"):
        own_recipes.own_job(own_recipes.replace(job, out=CHECKPOINTS / ".." / "checkpoints"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["avatar-biggan", "-p", "dataset=folder:."], "trains on the bundled pictures only"),
        (["colourisation", "-p", "dataset=folder:no-such-folder"], "there is no folder no-such-folder"),
        (["colourisation", "-p", "dataset=imagenet:x"], "there is no data set"),
        (["colourisation", "-p", "dataset=people", "-p", "size=128"], "drawn at 64 pixels"),
        (["colourisation", "-p", "size=128"], "goes with dataset="),
        (["colourisation", "-p", "dataset=people", "-p", "size=99"], "choose 64 or 128"),
        (["colourisation", "-p", "size=many"], "size"),
        (["nothing", "-p", "dataset=people"], "no recipe 'nothing'"),
    ],
)
def test_the_command_line_says_at_once_what_is_wrong(monkeypatch, arguments, words):
    monkeypatch.setattr(recipes, "train", lambda *given, **options: pytest.fail("it began to train"))
    result = CliRunner().invoke(cli.app, ["train", *arguments])
    assert isinstance(result.exception, CourseError) and words in str(result.exception)
