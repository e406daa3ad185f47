"""The translator, its scores and the comparison of layers, on tiny random experts."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet, resize
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.experts import Classifier, ClassifierConfig, GridAutoencoder, GridAutoencoderConfig, freeze
from course_lib.translation import (
    ExperimentData,
    LowResolution,
    Translator,
    enlarge,
    explained,
    load_flow,
    load_regressor,
    load_superresolution,
    score_choice,
)
from course_lib.translation.translator import score_pictures


@pytest.fixture(scope="module")
def experts() -> tuple[LowResolution, GridAutoencoder, Judge]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = freeze(GridAutoencoder(GridAutoencoderConfig(16, 1, (8, 8), (8, 8))))
        large = freeze(GridAutoencoder(GridAutoencoderConfig(64, 2, (8, 8, 8, 8), (8, 8, 8, 8))))
        judge = Judge(freeze(Classifier(ClassifierConfig({"glasses": 3}, 4, 4))))
    return LowResolution(16, small), large, judge


@pytest.fixture(scope="module")
def translator(experts) -> Translator:
    flow = ConditionalFlow(FlowConfig(32, (16,), hidden_dim=8, blocks=2), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in flow.blocks:
            block.norm.initialized.fill_(1)
    return Translator(experts[0], flow, experts[1])


@pytest.fixture(scope="module")
def data() -> ImageSet:
    images = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet("noise", images, {"glasses": torch.arange(12) % 3}, {"glasses": ["no", "round", "dark"]})


def test_shapes_and_shared_residuals(translator, data):
    x = data.batch(torch.arange(3))
    pictures = translator.translate(x, samples=4, generator=torch.Generator().manual_seed(0))
    assert pictures.shape == (3, 4, 3, 64, 64) and pictures.abs().max() <= 1
    v = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(translator.render(v, x), pictures)
    cold = translator.translate(x, samples=2, temperature=0.0)
    torch.testing.assert_close(cold[:, 0], cold[:, 1])


def test_a_transfer_to_itself_is_the_reconstruction(translator, data):
    x = data.batch(torch.arange(3))
    reconstruction = translator.target.decode(translator.target.encode(x))
    torch.testing.assert_close(translator.transfer(x, x, x), reconstruction, atol=1e-4, rtol=0)
    moved = translator.transfer(x, x, x.flip(0))
    latent = translator.flow.inverse(translator.residual(x, x), translator.source.encode(x.flip(0)))
    torch.testing.assert_close(moved, translator.target.decode(latent))


def test_a_flow_of_another_shape_is_refused(experts):
    flow = ConditionalFlow(FlowConfig(32, (5,), hidden_dim=8, blocks=1))
    with pytest.raises(CourseError, match="conditions \\(5,\\)"):
        Translator(experts[0], flow, experts[1])


def test_the_kernel_of_the_condition(experts, data):
    x = data.batch(torch.arange(2))
    area, nearest = experts[0], LowResolution(16, experts[0].autoencoder, "nearest")
    torch.testing.assert_close(area.shrink(x), resize(x, 16))
    assert torch.equal(nearest.shrink(x), x[:, :, ::4, ::4])
    assert not torch.allclose(area.encode(x), nearest.encode(x))
    pixels = LowResolution(8)
    assert pixels.condition_shape == (3, 8, 8)
    torch.testing.assert_close(pixels.encode(x), avg_pool2d(x, 8))
    with pytest.raises(CourseError, match="area or nearest"):
        LowResolution(16, kernel="cubic")


def test_an_input_is_encoded_once(translator, data, monkeypatch):
    calls = []
    encode = translator.source.encode
    monkeypatch.setattr(translator.source, "encode", lambda x: calls.append(len(x)) or encode(x))
    translator.translate(data.batch(torch.arange(3)), samples=2)
    assert calls == [3]


def test_enlarging_without_learning():
    large = enlarge(torch.rand(2, 3, 16, 16) * 2 - 1, 64)
    assert large.shape == (2, 3, 64, 64) and large.abs().max() <= 1
    flat = torch.full((1, 3, 8, 8), 0.3)
    torch.testing.assert_close(enlarge(flat, 32), torch.full((1, 3, 32, 32), 0.3))


def test_explained_variance():
    wanted = torch.randn(50, 4) + 3
    assert explained(wanted, wanted) == 1.0
    assert explained(wanted, wanted.mean(0).expand_as(wanted)) == pytest.approx(0.0, abs=1e-6)
    assert explained(wanted, wanted + 2) < 0
    with pytest.raises(CourseError, match="one shape"):
        explained(wanted, wanted[:3])


def test_what_the_scores_mean(experts, data):
    source, target, judge = experts
    experiment = ExperimentData(target, judge, data)
    real, condition = experiment.real, experiment.pairs(source).condition

    def score(*samples):
        return score_pictures(experiment, torch.stack(samples, 1), condition, source)

    exact = score(real)
    assert exact["frechet"] == pytest.approx(0.0, abs=1e-6) and exact["consistency"] == pytest.approx(1.0)
    assert exact["diversity"] == exact["pixel_spread"] == 0.0 and exact["psnr"] > 90
    assert score(real, real)["diversity"] == pytest.approx(0.0, abs=1e-5)
    other = score(real.roll(1, 0), real)
    assert other["frechet"] == pytest.approx(0.0, abs=1e-6), "the same pictures in another order are the same set"
    assert other["consistency"] < 0.5 and other["diversity"] > 0 and other["psnr"] < 20 and other["pixel_spread"] > 0.1
    right = judge.predict(real, "glasses") == data.labels["glasses"]
    assert exact["accuracy"] == pytest.approx(right.float().mean().item())
    assert score(torch.zeros_like(real))["frechet"] > exact["frechet"] + 1e-6


def test_scoring_a_translator(translator, experts, data):
    experiment = ExperimentData(experts[1], experts[2], data)
    pictures, found = score_choice(experiment, translator, samples=3)
    assert pictures.shape == (12, 3, 3, 64, 64) and min(found[name] for name in ("diversity", "frechet", "nats")) > 0
    assert score_choice(experiment, translator, samples=3)[1] == found
    _, cold = score_choice(experiment, translator, temperature=0.0)
    assert cold["diversity"] == pytest.approx(0.0, abs=1e-4)


def test_missing_and_foreign_checkpoints(tmp_path):
    for load in (load_flow, load_regressor):
        with pytest.raises(CourseError, match="no checkpoint"):
            load("superresolution", folder=tmp_path)
    with pytest.raises(CourseError, match="no checkpoint"):
        load_superresolution(folder=tmp_path)
    with pytest.raises(CourseError, match="not a conditional flow"):
        load_flow("avatar-classifier")
    with pytest.raises(CourseError, match="not a grid regressor"):
        load_regressor("avatar-classifier")
