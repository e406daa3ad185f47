"""Sources to choose from, exemplars, the segmenter, and the widgets of notebook 06."""

import io

import pytest
import torch
from PIL import Image

from course_lib.cinn import GridFlowConfig
from course_lib.data import ImageSet
from course_lib.data.image_set import edges, grey
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.evaluation.scores import measure_bias
from course_lib.experts import (
    Classifier,
    ClassifierConfig,
    GridAutoencoder,
    GridAutoencoderConfig,
    GridExpert,
    LayerExpert,
    Segmenter,
    SegmenterConfig,
    freeze,
)
from course_lib.profiles import CHECKPOINTS
from course_lib.recipes.experts import SegmenterMethod, label_cells, segmentation_scores
from course_lib.training import Budget, Card, save_weights, train
from course_lib.translation import (
    ExperimentData,
    FlowMethod,
    GridRegressor,
    Pairs,
    PooledSource,
    TransformedExpert,
    Translator,
    choice_flow,
    cross_grid,
    encode_pairs,
    inherited,
    load_choice,
    load_regressor,
    score_choice,
    score_regressor,
)
from course_lib.translation.translator import SOURCES, ColourPresence, RegressorMethod
from course_lib.widgets.picture_view import LABEL_HEIGHT
from course_lib.widgets.translations import CrossView, SourceView


def discs(count: int, seed: int) -> ImageSet:
    """Coloured squares of random place and size on white."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((count, 3, 64, 64), 255, dtype=torch.uint8)
    kind = torch.randint(0, 3, (count,), generator=generator)
    for k in range(count):
        y, x, side = torch.randint(8, 28, (3,), generator=generator).tolist()
        colour = torch.randint(0, 120, (3,), generator=generator).to(torch.uint8)
        colour[kind[k]] = 220
        images[k, :, y : y + side, x : x + side] = colour[:, None, None]
    labels = {"kind": kind, "glasses": kind % 2}
    return ImageSet("squares", images, labels, {"kind": ["red", "green", "blue"], "glasses": ["no", "yes"]})


@pytest.fixture(scope="module")
def training() -> ImageSet:
    return discs(400, 0)


@pytest.fixture(scope="module")
def experiment(training) -> ExperimentData:
    """A target whose latent is 8×8 cells of 4 numbers, a judge of nothing, and sixty held-out squares."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = GridAutoencoder(GridAutoencoderConfig(64, 4, (8, 8, 8), (8, 8, 8)))
        target.start_from_pca(training.batch(torch.arange(300)))
        target(training.batch(torch.arange(100)))  # running statistics
        judge = Judge(freeze(Classifier(ClassifierConfig({"kind": 3, "glasses": 2}, width=4))))
        return ExperimentData(freeze(target), judge, discs(60, 1))


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return freeze(Segmenter(SegmenterConfig(5, width=4)))


def test_every_layer_of_the_segmenter_is_a_function_of_the_one_before(segmenter):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    shapes = {name: LayerExpert(segmenter, name).condition_shape for name in segmenter.layers}
    assert shapes == {
        "early": (4, 32, 32), "low": (8, 16, 16), "middle": (16, 8, 8),
        "late": (4, 32, 32), "logits": (5, 32, 32), "argmax": (5, 32, 32),
    }  # fmt: skip
    onehot, logits = segmenter.layer(x, "argmax"), segmenter(x)
    assert torch.equal(onehot.sum(1), torch.ones(2, 32, 32)) and torch.equal(onehot.argmax(1), logits.argmax(1))
    assert torch.equal(segmenter.segment(x), logits.argmax(1))
    later = segmenter.blocks[2](segmenter.layer(x, "low"))
    assert torch.allclose(later, segmenter.layer(x, "middle"), atol=1e-5)
    with pytest.raises(CourseError, match="no layer"):
        segmenter.layer(x, "deepest")


def cells(data):
    """Two classes: where a picture is white, and where not."""
    return label_cells((data.images.amin(1) < 250).long(), 2)


def test_the_segmenter_learns_classes():
    data = discs(64, 3)
    torch.manual_seed(0)
    method = SegmenterMethod(data, cells(data), SegmenterConfig(2, width=4))
    method.optimizers["segmenter"].param_groups[0]["lr"] = 1e-2
    quiet = {"checkpoint_every": 0, "preview_every": 0, "progress": False}
    curve = train(method, Budget(40), 16, log_every=10, **quiet).curve["loss/segmenter"]
    assert curve[-1] < 0.8 * curve[0]


def test_cells_take_the_majority():
    labels = torch.tensor([[[0, 1, 2, 2], [1, 1, 2, 0]]])
    assert torch.equal(label_cells(labels, 3), torch.tensor([[[1, 2]]], dtype=torch.uint8))


def test_segmentation_scores_count_cells_and_classes_that_occur():
    class Oracle(Segmenter):
        def segment(self, x):
            return cells(ImageSet("some", ((x + 1) * 127.5).round().to(torch.uint8))).long()

    class Blind(Segmenter):
        def segment(self, x):
            return torch.zeros(len(x), 32, 32, dtype=torch.int64)

    data, config = discs(20, 4), SegmenterConfig(3, width=4)
    assert segmentation_scores(Oracle(config), data, cells(data)) == {"pixel accuracy": 1.0, "mIoU": 1.0}
    blind = segmentation_scores(Blind(config), data, cells(data))
    share = (cells(data) == 0).float().mean().item()
    assert blind == {"pixel accuracy": pytest.approx(share), "mIoU": pytest.approx(share / 2)}


def pairs_of(expert, training, experiment) -> tuple[PooledSource, Pairs]:
    """A source fitted to the training pictures, and their pairs."""
    pairs = encode_pairs(training, expert.encode, experiment.target, noise=0.2)
    source = PooledSource.fit(expert, pairs.condition, experiment.target.config.side)
    return source, Pairs(source.standardise(pairs.condition), pairs.mean, pairs.std)


def trained(expert, training, experiment, steps: int) -> Translator:
    """A translator after some steps."""
    source, pairs = pairs_of(expert, training, experiment)
    flow = choice_flow(pairs, experiment.target)
    quiet = {"checkpoint_every": 0, "preview_every": 0, "progress": False}
    train(FlowMethod(pairs, flow, 2e-3), Budget(steps), 64, **quiet)
    return Translator(source, flow.eval(), experiment.target)


@pytest.fixture(scope="module")
def translator(segmenter, training, experiment) -> Translator:
    return trained(GridExpert(experiment.target), training, experiment, 30)


def test_pooled_sources_are_standardised_and_stored(segmenter, training, experiment):
    expert = LayerExpert(segmenter, "argmax")
    source, pairs = pairs_of(expert, training, experiment)
    assert source.condition_shape == (5, 16, 16) == pairs.condition.shape[1:]
    assert pairs.condition.mean((0, 2, 3)).abs().max() < 1e-3
    output = expert.encode(experiment.real[:3])
    assert torch.equal(source.pool(source.pool(output)), source.pool(output))
    assert torch.equal(source.encode(experiment.real[:3]), source.standardise(output))
    again = PooledSource(expert, source.condition_shape, source.mean, source.deviation)
    assert torch.equal(again.standardise(output), source.standardise(output))
    drawn = source.transformed(edges)
    assert torch.equal(drawn.encode(experiment.real[:3]), source.encode(edges(experiment.real[:3])))
    shapes = {(5, 32): (5, 16, 16), (60, 32): (60, 8, 8), (5, 8): (5, 8, 8), (5, 4): (5, 8, 8)}
    for (channels, size), shape in shapes.items():
        output = torch.randn(4, channels, size, size)
        pooled = PooledSource.fit(expert, output, 8)
        assert pooled.condition_shape == shape == pooled.standardise(output).shape[1:], "as many places, or twice"


def test_colours_are_kept_without_places(experiment):
    expert, pictures = ColourPresence(), experiment.real[:4]
    found = expert.encode(pictures)
    assert found.shape == (4, *expert.condition_shape) and found.min() >= 0 and found.max() <= 1 + 1e-6
    assert torch.allclose(expert.encode(pictures.roll((8, 4), (2, 3))), found, atol=1e-5), "moved, the same"
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert expert.encode(red).view(4, 4, 4)[3, 0, 0] == 1 and expert.encode(red).sum() == 1
    without = TransformedExpert(expert, grey)
    assert torch.equal(without.encode(pictures), expert.encode(grey(pictures)))


def test_a_source_that_shows_more_leaves_less_open(segmenter, training, experiment, translator):
    blind = trained(TransformedExpert(translator.source.expert, torch.zeros_like), training, experiment, 30)
    much, little = (score_choice(experiment, one) for one in (translator, blind))
    assert much[0].shape == (60, 2, 3, 64, 64)
    (_, much), (_, little) = much, little
    assert much["nats"] < little["nats"] - 20 and much["pixel_spread"] < little["pixel_spread"]
    _, still = score_choice(experiment, translator, temperature=0.0)
    assert still["pixel_spread"] < 1e-4 and still["diversity"] < 1e-3


def test_a_vector_can_be_the_condition(training, experiment):
    flow = trained(LayerExpert(experiment.judge.network, "features"), training, experiment, 2).flow
    assert flow.config.condition_shape == (32,) and flow.shift.linear.weight.abs().max() > 0


def test_the_regressor_begins_at_the_linear_map_and_learns_beyond_it(tmp_path, training, experiment):
    source, pairs = pairs_of(TransformedExpert(GridExpert(experiment.target), grey), training, experiment)
    condition = experiment.pairs(source).condition
    torch.manual_seed(0)
    regressor = GridRegressor(GridFlowConfig(4, 8, pairs.condition.shape[1:]), 16)
    regressor.fit_shift(pairs.mean, pairs.condition, 0.01)

    def error() -> float:
        with torch.no_grad():
            return (regressor(condition) - experiment.latents.mean).square().mean().item()

    mean = (pairs.mean.mean(0) - experiment.latents.mean).square().mean().item()
    start = error()
    assert start < mean and torch.equal(regressor.net(torch.randn(1, 16, 8, 8)), torch.zeros(1, 4, 8, 8))
    quiet = {"checkpoint_every": 0, "preview_every": 0, "progress": False}
    train(RegressorMethod(pairs, regressor, 3e-3), Budget(60), 64, **quiet)
    assert error() < start
    pictures, found = score_regressor(experiment, regressor.eval(), source)
    answers = experiment.target.decode(regressor(condition[:3]))
    assert torch.allclose(pictures[:3, 0], answers, atol=1e-5)
    assert found["frechet"] > 0 == found["diversity"] and "nats" not in found
    expected = (experiment.latents.mean - regressor(condition)).square().sum(1).mean().item()
    assert found["error"] == pytest.approx(expected, rel=1e-4)
    card = Card("answers", "grid regressor", regressor.config.to_dict(), {"width": 16})
    save_weights(regressor.state_dict(), card, tmp_path, bits=32)
    assert torch.equal(load_regressor("answers", folder=tmp_path)(condition), regressor(condition))


@pytest.mark.parametrize("name", SOURCES)
def test_every_shipped_translator_opens_with_its_source(name):
    loaded = load_choice(name)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    condition = loaded.source.encode(pictures)
    assert condition.shape[1:] == loaded.flow.config.condition_shape == loaded.source.condition_shape
    assert loaded.target.decode(loaded.flow.sample(condition)).shape == (2, 3, 64, 64)


def test_what_is_no_choice_is_refused(tmp_path):
    with pytest.raises(CourseError, match="no source"):
        load_choice("superresolution-8")
    save_weights({"a": torch.zeros(1)}, Card("inpainting", "regressor", {}), tmp_path)
    with pytest.raises(CourseError, match="not a choice"):
        load_choice("inpainting", folder=tmp_path)
    assert all((CHECKPOINTS / f"{name}.json").exists() for name in SOURCES)


def test_a_cross_grid_reconstructs_on_its_diagonal(experiment, translator):
    latent, condition = experiment.latents.mean[:5], experiment.pairs(translator.source).condition[:5]
    grid = cross_grid(translator, latent, condition)
    own = experiment.target.decode(latent)
    assert torch.allclose(grid.diagonal(dim1=0, dim2=1).movedim(-1, 0), own, atol=1e-2)
    view = CrossView(translator, experiment.real[:5], latent, condition)
    assert torch.allclose(view.strip(1, 3)[2], grid[1, 3], atol=1e-4)
    assert view.render(1, 3) == view.render(1, 3) != view.render(3, 1)
    shown = view.view()
    before = shown.picture.value
    shown.controls["condition_of"].value = 4
    assert shown.picture.value != before and shown.message.value == ""


class ColourJudge:
    """Names a square by its strongest colour."""

    def __init__(self):
        self.network = torch.nn.Module()
        self.network.heads = torch.nn.ModuleDict({"kind": torch.nn.Linear(3, 3, bias=False)})
        with torch.no_grad():
            self.network.heads["kind"].weight.copy_(torch.eye(3))

    def features(self, images):
        return (images * (images.amin(1, keepdim=True) < 0.9)).sum((2, 3))


def test_attributes_are_inherited_from_one_of_two_pictures(experiment):
    pictures, judge = experiment.real[:6], ColourJudge()
    labels = {"kind": experiment.held.labels["kind"][:6]}
    assert torch.equal(judge.features(pictures).argmax(1), labels["kind"]) and len(labels["kind"].unique()) > 1
    by_row = pictures[:, None].expand(6, 6, -1, -1, -1)
    assert inherited(judge, by_row, labels) == {"kind": (1.0, 0.0)}
    assert inherited(judge, by_row.transpose(0, 1), labels) == {"kind": (0.0, 1.0)}
    with pytest.raises(CourseError, match="rows and columns"):
        inherited(judge, by_row[:5], labels)


def test_the_source_view_is_pure_and_follows_its_controls(segmenter, training, experiment, translator):
    other = trained(LayerExpert(segmenter, "logits"), training, experiment, 2)
    sources = {
        name: (one, experiment.pairs(one.source).condition) for name, one in (("all", translator), ("parts", other))
    }
    widget = SourceView(sources, experiment.real)
    assert torch.equal(widget.strip("all", 2)[0], experiment.real[2])
    cold = widget.strip("parts", 2, 0.0)
    assert torch.allclose(cold[1], cold[4], atol=1e-4)
    width, height = Image.open(io.BytesIO(widget.render("all", 0))).size
    assert width == 5 * (height - LABEL_HEIGHT) and widget.render("all", 0) == widget.render("all", 0) != widget.render(
        "parts", 0
    )
    view = widget.view()
    before = view.picture.value
    view.controls["source"].value = "parts"
    assert view.picture.value != before and view.message.value == ""


def test_bias_counts_only_decisions_for_one_of_the_cues(experiment):
    bias = measure_bias(experiment.judge.network, experiment.held)
    assert 0 <= bias["shape"] <= 1 and 0 < bias["decided"] <= 1 and 0 <= bias["edges"] <= 1
    again = measure_bias(experiment.judge.network, experiment.held)
    assert again == bias
