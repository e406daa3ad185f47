"""The translator, its scores and the comparison of layers, on tiny random experts."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import ImageSet, resize
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.experts import Autoencoder, AutoencoderConfig, Classifier, ClassifierConfig, freeze
from course_lib.translation import (
    LowResolution,
    Regressor,
    Translator,
    explained,
    load_flow,
    load_regressor,
    load_superresolution,
    score_pictures,
    score_translator,
)
from course_lib.translation.superresolution import enlarge


@pytest.fixture(scope="module")
def experts() -> tuple[LowResolution, Autoencoder, Judge]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        small = freeze(Autoencoder(AutoencoderConfig(16, 6, (8, 8), (8, 8))))
        large = freeze(Autoencoder(AutoencoderConfig(64, 8, (8, 8, 8, 8), (8, 8, 8, 8))))
        judge = Judge(freeze(Classifier(ClassifierConfig({"subgroup": 3}, 4, 4))))
    return LowResolution(16, small), large, judge


@pytest.fixture(scope="module")
def translator(experts) -> Translator:
    flow = ConditionalFlow(FlowConfig.quick(8, (6,), hidden_dim=8, blocks=2), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in flow.blocks:
            block.norm.initialized.fill_(1)
    return Translator(experts[0], flow, experts[1])


@pytest.fixture(scope="module")
def data() -> ImageSet:
    images = torch.randint(0, 256, (12, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageSet("noise", images)


def test_shapes_and_shared_residuals(translator, data):
    x = data.batch(torch.arange(3))
    pictures = translator.translate(x, samples=4, generator=torch.Generator().manual_seed(0))
    assert pictures.shape == (3, 4, 3, 64, 64) and pictures.abs().max() <= 1
    v = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
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
    flow = ConditionalFlow(FlowConfig.quick(8, (5,), hidden_dim=8, blocks=1))
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


def test_enlarging_without_learning():
    small = torch.rand(2, 3, 16, 16) * 2 - 1
    for mode in ("nearest", "bicubic"):
        large = enlarge(small, 64, mode)
        assert large.shape == (2, 3, 64, 64) and large.abs().max() <= 1
    torch.testing.assert_close(resize(enlarge(small, 64, "nearest"), 16), small)


def test_explained_variance():
    wanted = torch.randn(50, 4) + 3
    assert explained(wanted, wanted) == 1.0
    assert explained(wanted, wanted.mean(0).expand_as(wanted)) == pytest.approx(0.0, abs=1e-6)
    assert explained(wanted, wanted + 2) < 0
    with pytest.raises(CourseError, match="one shape"):
        explained(wanted, wanted[:3])


def test_what_the_scores_mean(experts, data):
    source, _, judge = experts
    real = torch.cat(list(data.batches(12)))
    exact = score_pictures(real[:, None], real, source, judge)
    assert exact.frechet == pytest.approx(0.0, abs=1e-6) and exact.consistency == pytest.approx(1.0)
    assert exact.diversity == 0.0 and exact.psnr > 90
    twice = score_pictures(torch.stack([real, real], 1), real, source, judge)
    assert twice.diversity == pytest.approx(0.0, abs=1e-5)
    other = score_pictures(torch.stack([real.roll(1, 0), real], 1), real, source, judge)
    assert other.frechet == pytest.approx(0.0, abs=1e-6), "the same pictures in another order are the same set"
    assert other.consistency < 0.5 and other.diversity > 0 and other.psnr < 20
    grey = score_pictures(torch.zeros_like(real)[:, None], real, source, judge)
    assert grey.frechet > exact.frechet + 1e-6


def test_scoring_a_translator(translator, experts, data):
    scores, pictures = score_translator(translator, data, experts[2], samples=3)
    assert pictures.shape == (12, 3, 3, 64, 64) and scores.diversity > 0 and scores.frechet > 0
    again, _ = score_translator(translator, data, experts[2], samples=3)
    assert again == scores
    cold, _ = score_translator(translator, data, experts[2], temperature=0.0)
    assert cold.diversity == pytest.approx(0.0, abs=1e-4)


def test_missing_and_foreign_checkpoints(tmp_path):
    for load in (load_flow, load_regressor):
        with pytest.raises(CourseError, match="no checkpoint"):
            load("superresolution", folder=tmp_path)
    with pytest.raises(CourseError, match="no checkpoint"):
        load_superresolution(folder=tmp_path)
    with pytest.raises(CourseError, match="not a conditional flow"):
        load_flow("classifier")
    with pytest.raises(CourseError, match="not a regressor"):
        load_regressor("classifier")


def test_the_regressor_has_the_flows_embedder():
    config = FlowConfig.quick(8, (6,), embedding_dim=5)
    regressor = Regressor(config, 16)
    assert regressor(torch.zeros(3, 6)).shape == (3, 8)
    assert type(regressor.embedder) is type(ConditionalFlow(config).embedder)
