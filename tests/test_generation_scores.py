"""Scores of generators and of folders of checkpoints, and the two commands, on tiny random networks."""

import json
import shutil

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from course_lib import cli
from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation.scores import FeatureNetwork, feature_scores, inception_score
from course_lib.experts import freeze
from course_lib.gans.biggan import BigGANConfig, Generator, start_weights
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.generation.generator import BigGANPictures, StylePictures
from course_lib.generation.scoring import Evaluation, find_checkpoints, match_classes, score_folder, score_generator
from course_lib.training import Card, save_weights

BIG = BigGANConfig(3, (16, 8, 8), (8, 8), 2, 12, 6, ())
NAMES = ["cat", "dog", "owl"]
MIX = torch.randn(3 * 16, 6, generator=torch.Generator().manual_seed(0))
SEEN = []


def colours(images):
    """Six numbers a picture, from its places and colours; remembers how many it saw."""
    SEEN.append(len(images))
    return torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ MIX


NETWORK = FeatureNetwork("colours", "k", colours, lambda images: colours(images).softmax(1))


def network(seed):
    torch.manual_seed(seed)
    made = Generator(BIG)
    start_weights(made)
    return freeze(made)


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints of one run, out of order, beside something that is no generator."""
    for seed, steps in ((1, 200), (2, 100), (3, 300)):
        card = Card(f"run-{steps}", "biggan generator", vars(BIG), {"classes": NAMES}, steps)
        save_weights(network(seed).state_dict(), card, tmp_path / "run", bits=32)
    save_weights({"w": torch.zeros(3)}, Card("other", "flow", {}), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder of real pictures: 8 cats, 9 dogs, 3 owls and a class that no generator knows."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    for name, count in (("cat", 8), ("dog", 9), ("owl", 3), ("yak", 7)):
        for index in range(count):
            path = tmp_path / "real" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(torch.randint(0, 256, (20, 24, 3), dtype=torch.uint8).numpy()).save(path)
    return f"folder:{tmp_path / 'real'}"


def labelled(counts, names):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.randint(0, 256, (len(labels), 3, 16, 16), dtype=torch.uint8)
    return ImageSet("toy", images, {"class": labels}, {"class": names})


# --- one generator ----------------------------------------------------------------------------------------------------


def test_labels_follow_the_generators_order():
    data = labelled([2, 3, 1, 4], ["yak", "owl", "cat", "dog"])
    generator = BigGANPictures(network(0), NAMES, "toy")
    found = match_classes(data, generator)
    assert found.classes["class"] == NAMES and found.labels["class"].tolist() == [2, 2, 2, 0, 1, 1, 1, 1]
    assert match_classes(data, generator, ["owl"]).classes["class"] == ["owl"]
    with pytest.raises(CourseError, match="no class 'yak'"):
        match_classes(data, generator, ["yak"])
    with pytest.raises(CourseError, match=r"'toy' has no pictures of the classes of toy \(cat, dog, owl"):
        match_classes(labelled([2, 2], ["cat", "dog"]), generator)


def test_scores_are_those_of_the_two_sets_of_features(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    generator = BigGANPictures(network(0), NAMES)
    data = match_classes(labelled([8, 9, 3], NAMES), generator)
    found = score_generator(generator, data, NETWORK, seed=5)
    labels = data.labels["class"]
    drawn = generator.draw(generator.latents(20, 5), generator.class_vectors(labels))
    real, fake = colours(data.batch(torch.arange(20))), colours(drawn)
    expected = feature_scores(real, fake)
    assert {name: found.together[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert found.classes["dog"] == pytest.approx(feature_scores(real[labels == 1], fake[labels == 1]), rel=1e-4)
    assert found.left_out == ["owl"] and set(found.classes) == {"cat", "dog"}
    both = [found.classes[name]["recall"] for name in ("cat", "dog")]
    assert found.mean["recall"] == pytest.approx(sum(both) / 2)
    assert found.counts == {"real": 20, "generated": 20} and 1 <= found.together["Inception score"] <= 6
    p = colours(drawn).softmax(1)
    assert found.together["Inception score"] == pytest.approx(inception_score(p, 1)[0], rel=1e-4)
    more = score_generator(generator, data, NETWORK, samples=30)
    assert more.counts == {"real": 20, "generated": 90}


def test_the_inception_score_of_many_pictures_does_not_depend_on_their_order(tmp_path, monkeypatch):
    """Ten splits of pictures that lie class by class would each hold a single class and score 1."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    sure = FeatureNetwork("sure", "k", colours, lambda x: torch.eye(3)[torch.arange(3).repeat_interleave(len(x) // 3)])
    data = match_classes(labelled([8, 8, 8], NAMES), BigGANPictures(network(0), NAMES))
    found = score_generator(BigGANPictures(network(0), NAMES), data, sure, samples=400)
    assert found.together["Inception score"] == pytest.approx(3.0, rel=0.02)


def test_a_generator_without_classes_is_scored_as_one_set(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    generator = StylePictures(freeze(StyleGAN(StyleGANConfig((8, 8, 8), (8, 8, 8), latent=6, mapping=1))))
    data = labelled([8, 9, 3], NAMES)
    found = score_generator(generator, match_classes(data, generator), NETWORK)
    assert found.classes == {} == found.mean and found.counts == {"real": 20, "generated": 20}
    some = match_classes(data, generator, ["cat", "owl"])
    assert score_generator(generator, some, NETWORK).counts == {"real": 11, "generated": 11}


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_scored_once_and_in_the_order_of_its_steps(folder, pictures, tmp_path):
    assert [card.name for card, _ in find_checkpoints(folder)] == ["run-100", "run-200", "run-300"]
    lines, out = [], tmp_path / "out"
    evaluation = Evaluation(pictures, "all", seed=1)
    first = score_folder(folder, evaluation, out, tell=lines.append, network=NETWORK)
    assert [line.split(",")[0] for line in lines] == ["run-100", "run-200", "run-300"]
    stored = json.loads((out / "scores.json").read_text())
    assert stored == json.loads(json.dumps(first)) and stored["evaluation"]["seed"] == 1
    entry = stored["checkpoints"]["run-200"]
    assert entry["steps"] == 200 and entry["left_out"] == ["owl"] and set(entry["classes"]) == {"cat", "dog"}
    assert Image.open(out / "scores.png").size[0] > 500
    SEEN.clear()
    assert score_folder(folder, evaluation, out, tell=lines.append, network=NETWORK) == stored
    assert SEEN == [] and lines[3:] == lines[:3], "everything was known"


def test_real_features_are_computed_once_for_all_checkpoints(folder, pictures, tmp_path):
    SEEN.clear()
    score_folder(folder, Evaluation(pictures, "all"), tmp_path / "out", tell=lambda _: None, network=NETWORK)
    assert SEEN == [20] + 6 * [20], "real pictures once; of each checkpoint features and probabilities"


def test_an_interrupted_run_goes_on_and_changed_weights_are_scored_again(folder, pictures, tmp_path):
    out, evaluation, lines = tmp_path / "out", Evaluation(pictures, "all"), []

    def stop(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_folder(folder, evaluation, out, tell=stop, network=NETWORK)
    assert list(json.loads((out / "scores.json").read_text())["checkpoints"]) == ["run-100", "run-200"]
    SEEN.clear()
    before = score_folder(folder, evaluation, out, tell=lines.append, network=NETWORK)
    assert SEEN == [20, 20]
    card = Card("run-200", "biggan generator", vars(BIG), {"classes": NAMES}, 200)
    save_weights(network(9).state_dict(), card, folder, bits=32)
    SEEN.clear()
    after = score_folder(folder, evaluation, out, tell=lines.append, network=NETWORK)
    assert SEEN == [20, 20]
    changed = [n for n in after["checkpoints"] if after["checkpoints"][n] != before["checkpoints"][n]]
    assert changed == ["run-200"]


def test_other_pictures_in_the_same_place_get_scores_of_their_own(folder, pictures, tmp_path):
    out, evaluation = tmp_path / "out", Evaluation(pictures, "all")
    before = score_folder(folder, evaluation, out, tell=lambda _: None, network=NETWORK)["checkpoints"]
    for path in (tmp_path / "real").rglob("*.png"):
        Image.fromarray(torch.randint(0, 256, (20, 24, 3), dtype=torch.uint8).numpy()).save(path)
    after = score_folder(folder, evaluation, out, tell=lambda _: None, network=NETWORK)["checkpoints"]
    assert all(after[name]["together"] != before[name]["together"] for name in before)
    SEEN.clear()
    assert (
        score_folder(folder, evaluation, out, tell=lambda _: None, network=NETWORK)["checkpoints"] == after and not SEEN
    )


def test_scores_against_something_else_are_kept_apart(folder, pictures, tmp_path):
    out = tmp_path / "out"
    score_folder(folder, Evaluation(pictures, "all"), out, tell=lambda _: None, network=NETWORK)
    before = (out / "scores.json").read_bytes()
    with pytest.raises(CourseError, match=r"other settings \(seed=0\)"):
        score_folder(folder, Evaluation(pictures, "all", seed=1), out, network=NETWORK)
    assert (out / "scores.json").read_bytes() == before
    (out / "scores.json").write_text("{")
    with pytest.raises(CourseError, match="damaged"):
        score_folder(folder, Evaluation(pictures, "all"), out, network=NETWORK)


# --- the commands -----------------------------------------------------------------------------------------------------


def course(*arguments):
    """Exit status and printed text; bad input is the exception that ``cli.main`` turns into one line."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if isinstance(result.exception, CourseError):
        return 2, str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_generate_writes_the_same_picture_for_the_same_seed(folder, tmp_path):
    first, second, other = (tmp_path / f"{name}.png" for name in "abc")
    call = ("generate", folder / "run-100", "--kind", "class", "--classes", "cat, owl", "--steps", 5, "--rows", 2)
    assert course(*call, "--out", first) == (0, f"wrote {first}\n")
    course(*call, "--out", second)
    course(*call, "--out", other, "--seed", 1)
    assert first.read_bytes() == second.read_bytes() != other.read_bytes()
    width, height = Image.open(first).size
    assert width > 2 * height > 0


@pytest.mark.parametrize("options", [("--straight",), ("--truncation", 0.3), ("--steps", 4), ("--rows", 3)])
def test_every_option_changes_the_picture(folder, tmp_path, options):
    call = ("generate", folder / "run-100", "--kind", "noise", "--steps", 5, "--rows", 2, "--out")
    course(*call, tmp_path / "plain.png")
    course(*call, tmp_path / "changed.png", *options)
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "changed.png").read_bytes()


def test_the_shifts_go_as_far_as_asked(folder, tmp_path):
    for name, reach in (("near", 0.1), ("far", 2.0)):
        call = ("generate", folder / "run-100", "--kind", "class-shift", "--reach", reach)
        assert course(*call, "--out", tmp_path / f"{name}.png")[0] == 0
    assert (tmp_path / "near.png").read_bytes() != (tmp_path / "far.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--kind", "spiral"), "choose one of class-grid, truncation"),
        (("--classes", "cat,cow"), "no class 'cow': it has cat, dog, owl"),
        (("--kind", "class", "--classes", "cat"), "between two classes, not 1: name two, for example --classes cat,"),
        (("--kind", "noise", "--classes", "cat,dog"), "one class, not 2"),
        (("--kind", "mixing", "--cut", "7"), "after layer 1 to 2, not after 7"),
        (("--out", "picture.txt"), "picture.txt is no picture file"),
    ],
)
def test_generate_says_what_is_wrong(folder, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    code, text = course("generate", folder / "run-100", *options)
    assert code == 2 and words in text and "\n" not in text
    assert not list(tmp_path.glob("*.png"))


def test_generate_help_names_every_kind():
    from course_lib.generation.generator import KINDS

    _, text = course("generate", "--help")
    assert all(kind in "".join(text.split()) for kind in KINDS)  # a line may end within a name


def test_evaluate_scores_with_the_judge(folder, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("course_lib.profiles.RUNS", tmp_path / "runs")
    code, text = course("evaluate", folder, "--dataset", pictures, "--part", "all", "--classes", "cat,dog")
    assert code == 0 and text.count("run-") == 3 and "precision" in text
    record = json.loads((tmp_path / "runs" / "scores" / "run" / "scores.json").read_text())
    assert record["evaluation"]["features"] == "judge"
    assert record["checkpoints"]["run-100"]["counts"] == {"real": 17, "generated": 17}
    one = tmp_path / "one"
    code, text = course(
        "evaluate", folder / "run-300.safetensors", "--dataset", pictures, "--part", "all", "--out", one
    )
    assert code == 0 and list(json.loads((one / "scores.json").read_text())["checkpoints"]) == ["run-300"]


def test_evaluate_says_what_is_wrong(folder, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    strange = tmp_path / "strange"
    for name in ("yak", "zebu"):
        shutil.copytree(tmp_path / "real" / "yak", strange / name)
    for options, words in (
        ((tmp_path / "real", "--dataset", pictures), "holds no generator"),
        ((folder, "--dataset", pictures), "no fixed split"),
        ((folder, "--dataset", "folder:/nowhere"), "no folder /nowhere"),
        ((folder, "--dataset", pictures, "--part", "all", "--features", "vgg"), "not one of 'judge', 'inception'"),
        ((folder, "--dataset", pictures, "--part", "all", "--features", "inception"), "not on this machine"),
        ((folder / "missing",), "no checkpoint 'missing'"),
        (
            (folder, "--dataset", f"folder:{strange}", "--part", "all"),
            "'strange' has no pictures of the classes of run-100",
        ),
    ):
        code, text = course("evaluate", *options, "--out", tmp_path / "out")
        assert code == 2 and words in text, text
    assert not (tmp_path / "out").exists()
