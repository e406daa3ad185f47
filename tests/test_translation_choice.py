"""Sources to choose from, exemplars, the probe of the residual, the segmenter, and notebook 06's dials."""

import io

import pytest
import torch
from PIL import Image

from course_lib.cinn import GridFlow, GridFlowConfig
from course_lib.data import ImageSet
from course_lib.data.degrade import edges, grey
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.evaluation.cue_bias import measure_bias
from course_lib.experts import (
    Autoencoder,
    AutoencoderConfig,
    Classifier,
    ClassifierConfig,
    GridAutoencoder,
    GridAutoencoderConfig,
    GridExpert,
    LayerExpert,
    Segmenter,
    SegmenterConfig,
    SegmenterExpert,
    freeze,
)
from course_lib.recipes.segmenter import SegmenterMethod, label_cells, segmentation_scores
from course_lib.training import Budget, Card, save_weights, train
from course_lib.translation import (
    Bench,
    GridRegressor,
    Pairs,
    PooledSource,
    RegressorMethod,
    Translator,
    choose_source,
    cross_grid,
    leakage,
    load_choice,
    load_regressor,
    regressor_answers,
    score_grid,
    use_translator,
)
from course_lib.translation.choice import choice_flow, grid_side
from course_lib.translation.exemplar import mean_colour, overlap
from course_lib.widgets.kept import CrossDial, SourceDial


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
    return ImageSet("squares", images, {"subgroup": kind}, {"subgroup": ["red", "green", "blue"]})


@pytest.fixture(scope="module")
def bench() -> Bench:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = Autoencoder(AutoencoderConfig(64, 16, (8, 8, 8, 8), (8, 8, 8, 8)))
        training, held = discs(600, 0), discs(60, 1)
        target.start_from_pca(training.batch(torch.arange(600)))
        target(training.batch(torch.arange(100)))  # running statistics
        judge = Judge(freeze(Classifier(ClassifierConfig({"subgroup": 3}, width=4))))
        return Bench.prepare(freeze(target), judge, training, held)


@pytest.fixture(scope="module")
def grid_bench(bench) -> Bench:
    """The same pictures and judge, with a target whose latent is 8×8 cells of 4 numbers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        target = GridAutoencoder(GridAutoencoderConfig(64, 4, (8, 8, 8), (8, 8, 8)))
        target.start_from_pca(bench.training.batch(torch.arange(300)))
        target(bench.training.batch(torch.arange(100)))
        return Bench.prepare(freeze(target), bench.judge, bench.training, bench.held)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return freeze(Segmenter(SegmenterConfig(5, width=4)))


def test_every_layer_of_the_segmenter_is_a_function_of_the_one_before(segmenter):
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    shapes = {name: SegmenterExpert(segmenter, name).condition_shape for name in segmenter.layers}
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
    method = SegmenterMethod(data, cells(data), SegmenterConfig(2, width=4), rate=1e-2)
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


def test_pooled_sources_are_small_standardised_and_stored(segmenter, bench):
    expert = SegmenterExpert(segmenter, "argmax")
    heard = bench.outputs(expert)
    source = PooledSource(expert, heard)
    assert source.condition_shape == (5, 8, 8)
    condition = source.standardise(heard)
    assert condition.mean((0, 2, 3)).abs().max() < 1e-4
    assert torch.equal(source.pool(source.pool(heard)), source.pool(heard))
    assert torch.equal(source.encode(bench.real[:3]), source.standardise(expert.encode(bench.real[:3])))
    again = PooledSource.restore(expert, source.condition_shape, source.state())
    assert torch.equal(again.standardise(heard), condition)
    noise = torch.randn(50, 5, 8, 8)
    assert PooledSource(expert, noise, 1.5).standardise(noise).abs().max() == 1.5
    assert PooledSource(expert, noise).standardise(noise).abs().max() > 2
    wide = PooledSource(expert, torch.randn(4, 96, 8, 8))
    assert wide.condition_shape == (96, 4, 4), "no more than 2048 values"
    assert PooledSource(bench.target, torch.randn(9, 16)).condition_shape == (16,)
    shapes = {(5, 32): (5, 16, 16), (60, 32): (60, 8, 8), (5, 8): (5, 8, 8), (5, 4): (5, 8, 8)}
    for (channels, size), shape in shapes.items():
        output = torch.randn(4, channels, size, size)
        on_grid = PooledSource(expert, output, grid=8)
        assert on_grid.condition_shape == shape == on_grid.standardise(output).shape[1:], "as many places, or twice"


def test_a_translator_from_any_source_beats_one_that_hears_nothing(segmenter, bench):
    classes = tuple(data.labels["subgroup"] for data in (bench.training, bench.held))
    told = choose_source(bench, bench.target, 40, samples=3)
    assert told.pictures.shape == (60, 3, 3, 64, 64) and told.translator.flow.config.condition_shift
    deaf = tuple(torch.randn(n, 16, generator=torch.Generator().manual_seed(n)) for n in (600, 60))
    withheld = choose_source(bench, bench.target, 40, known=deaf, linear_start=False)
    assert told.scores.nats < withheld.scores.nats - 5
    assert told.scores.pixel_spread < withheld.scores.pixel_spread
    clean, broken = (leakage(bench, one, told, classes) for one in (told, withheld))
    assert clean.explained < 0.3 < 0.6 < broken.explained and broken.accuracy > clean.accuracy
    assert clean.chance == pytest.approx(1 / 3)


def test_maps_go_through_the_convolutional_embedder(segmenter, bench):
    choice = choose_source(bench, SegmenterExpert(segmenter, "argmax"), 5)
    config = choice.translator.flow.config
    assert config.embedder_kind == "conv" and config.condition_shape == (5, 8, 8)


def test_a_grid_target_gets_a_grid_flow_that_reads_maps_in_their_place(segmenter, grid_bench):
    assert grid_side(grid_bench.target) == 8
    told = choose_source(grid_bench, GridExpert(grid_bench.target), 10, see=grey, temperature=0.5)
    flow = told.translator.flow
    assert isinstance(flow, GridFlow) and flow.config.condition_shape == (4, 8, 8)
    assert flow.shift.linear.weight.abs().max() > 0 and flow.whitening.change.abs().max() > 0
    deaf = choose_source(grid_bench, GridExpert(grid_bench.target), 10, see=torch.zeros_like, linear_start=False)
    assert told.scores.nats < deaf.scores.nats - 20 and told.scores.pixel_spread < deaf.scores.pixel_spread
    still = use_translator(grid_bench, told.translator, see=grey, temperature=0.0)
    assert still.scores.pixel_spread < 1e-4 < told.scores.pixel_spread
    grid = cross_grid(told.translator, grid_bench.held_latents.mean[:3], told.condition[:3])
    own = grid_bench.decode(grid_bench.held_latents.mean[:3])
    assert torch.allclose(grid.diagonal(dim1=0, dim2=1).movedim(-1, 0), own, atol=1e-2)


@pytest.mark.parametrize("vector", [False, True])
def test_the_regressor_of_a_grid_begins_at_the_linear_map_and_learns_beyond_it(tmp_path, grid_bench, vector):
    expert = GridExpert(grid_bench.target)
    heard, told = (grid_bench.outputs(expert, grey, held=held) for held in (False, True))
    if vector:
        heard, told = heard.mean((2, 3)), told.mean((2, 3))
    source = PooledSource(expert, heard, grid=8)
    pairs = Pairs(source.standardise(heard), grid_bench.latents.mean, grid_bench.latents.std)
    condition = source.standardise(told)
    torch.manual_seed(0)
    regressor = GridRegressor(GridFlowConfig(4, 8, pairs.condition.shape[1:]), 16)
    regressor.fit_shift(pairs.mean, pairs.condition, 0.01)

    def error() -> float:
        with torch.no_grad():
            return (regressor(condition) - grid_bench.held_latents.mean).square().mean().item()

    mean = (grid_bench.latents.mean.mean(0) - grid_bench.held_latents.mean).square().mean().item()
    start = error()
    assert start < mean and torch.equal(regressor.net(torch.randn(1, 16, 8, 8)), torch.zeros(1, 4, 8, 8))
    quiet = {"checkpoint_every": 0, "preview_every": 0, "progress": False}
    train(RegressorMethod(pairs, regressor, 3e-3), Budget(60), 64, **quiet)
    assert error() < start
    pictures, distance = regressor_answers(grid_bench, regressor.eval(), condition)
    assert torch.allclose(pictures[:3], grid_bench.target.decode(regressor(condition[:3])), atol=1e-5) and distance > 0
    card = Card("answers", "grid regressor", regressor.config.to_dict(), {"width": 16})
    save_weights(regressor.state_dict(), card, tmp_path, bits=32)
    assert torch.equal(load_regressor("answers", folder=tmp_path)(condition), regressor(condition))


def test_the_test_may_show_something_else_than_the_training(segmenter, bench):
    expert = LayerExpert(bench.judge.network, "late")
    choice = choose_source(bench, expert, 2, see_at_test=edges)
    assert torch.equal(choice.condition, choice.translator.source.encode(edges(bench.real)))


@pytest.mark.parametrize("which", ["bench", "grid_bench"])
def test_a_shipped_choice_is_the_one_that_was_stored(tmp_path, segmenter, which, request):
    bench, expert = request.getfixturevalue(which), SegmenterExpert(segmenter, "argmax")
    choice = choose_source(bench, expert, 2)
    flow, source = choice.translator.flow, choice.translator.source
    tensors = flow.state_dict() | {f"source.{key}": value for key, value in source.state().items()}
    save_weights(tensors, Card("one", "choice", flow.config.to_dict()), tmp_path, bits=32)
    loaded = load_choice("one", expert, bench.target, folder=tmp_path)
    again = use_translator(bench, loaded)
    assert torch.allclose(again.pictures, choice.pictures, atol=1e-4)
    assert again.scores.nats == pytest.approx(choice.scores.nats, rel=1e-3)
    save_weights(tensors, Card("two", "regressor", flow.config.to_dict()), tmp_path)
    with pytest.raises(CourseError, match="not a choice"):
        load_choice("two", expert, bench.target, folder=tmp_path)


def test_a_cross_grid_reconstructs_on_its_diagonal(bench):
    torch.manual_seed(2)
    latent, condition = bench.held_latents.mean[:5], torch.randn(5, 16)
    flow = choice_flow(Pairs(torch.randn(600, 16), bench.latents.mean, bench.latents.std), bench.target)
    flow(bench.latents.mean[:50], torch.randn(50, 16))
    translator = Translator(PooledSource(bench.target, torch.randn(50, 16)), flow.eval(), bench.target)
    grid = cross_grid(translator, latent, condition)
    assert torch.allclose(grid.diagonal(dim1=0, dim2=1).movedim(-1, 0), bench.target.decode(latent), atol=1e-3)
    dial = CrossDial(translator, bench.real[:5], latent, condition)
    assert torch.allclose(dial.strip(1, 3)[2], grid[1, 3], atol=1e-4)
    assert dial.render(1, 3) == dial.render(1, 3) != dial.render(3, 1)
    view = dial.view()
    before = view.picture.value
    view.controls["condition_of"].value = 4
    assert view.picture.value != before and view.message.value == ""


def test_grids_are_scored_by_whom_they_follow(bench):
    pictures = bench.real[:6]
    by_row = pictures[:, None].expand(6, 6, -1, -1, -1)
    rows, columns = score_grid(by_row, pictures), score_grid(by_row.transpose(0, 1), pictures)
    assert rows.silhouette == 1 and rows.colour == 0 and rows.overlap_residual == 1
    assert columns.silhouette == 0 and columns.colour == 1 and columns.colour_condition == 0
    with pytest.raises(CourseError, match="rows and columns"):
        score_grid(by_row[:5], pictures)
    square = torch.ones(1, 3, 8, 8)
    square[..., 2:4, 2:4] = torch.tensor([0.2, -0.4, -0.8])[:, None, None]
    assert torch.allclose(mean_colour(square), torch.tensor([[0.2, -0.4, -0.8]]))
    assert overlap(square, square.roll(1, 3)).item() == pytest.approx(1 / 3)


def test_the_source_dial_is_pure_and_follows_its_controls(bench):
    choices = {name: choose_source(bench, bench.target, steps) for name, steps in (("a", 1), ("b", 3))}
    dial = SourceDial({name: (one.translator, one.condition) for name, one in choices.items()}, bench.real)
    assert torch.equal(dial.strip("a", 2)[0], bench.real[2])
    cold = dial.strip("b", 2, 0.0)
    assert torch.allclose(cold[1], cold[4], atol=1e-4)
    width, height = Image.open(io.BytesIO(dial.render("a", 0))).size
    assert width == 5 * height and dial.render("a", 0) == dial.render("a", 0) != dial.render("b", 0)
    view = dial.view()
    before = view.picture.value
    view.controls["source"].value = "b"
    assert view.picture.value != before and view.message.value == ""
    with pytest.raises(CourseError, match="one condition"):
        SourceDial({"a": (choices["a"].translator, choices["a"].condition[:3])}, bench.real)


def test_bias_counts_only_decisions_for_one_of_the_cues(bench):
    bias = measure_bias(bench.judge.network, bench.held)
    assert 0 <= bias.shape <= 1 and 0 < bias.decided <= 1 and 0 <= bias.edges <= 1
    again = measure_bias(bench.judge.network, bench.held)
    assert again == bias
