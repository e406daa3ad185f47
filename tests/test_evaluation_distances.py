"""Fréchet distance, diversity and the judge."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torchmetrics.image.fid import _compute_fid

from course_lib.errors import CourseError
from course_lib.evaluation import Judge, diversity, frechet_distance
from course_lib.experts import Classifier, ClassifierConfig, freeze
from course_lib.training import Card, save_weights


def exactly(mean, root, count=200):
    """``(count, F)`` samples whose own mean is ``mean`` and whose own covariance is ``root @ root.T``."""
    draw = torch.randn(count, len(mean), dtype=torch.float64)
    draw = draw - draw.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(draw.T @ draw / (count - 1)), draw.T, upper=False).T
    return white @ root.T + mean


def test_frechet_of_diagonal_gaussians_is_the_formula():
    m1, m2 = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, -1.0]).double()
    s1, s2 = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([2.0, 1.0, 0.5]).double()
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    found = frechet_distance(exactly(m1, s1.diag()), exactly(m2, s2.diag(), 300))
    assert found == pytest.approx(expected.item(), rel=1e-8)


def test_frechet_of_one_feature():
    found = frechet_distance(exactly(torch.zeros(1).double(), torch.eye(1).double()), torch.tensor([[1.0], [3.0]]))
    assert found == pytest.approx(4 + (2**0.5 - 1) ** 2)


@pytest.mark.parametrize(("size", "count"), [(5, 40), (16, 9)], ids=["full rank", "fewer samples than features"])
def test_frechet_agrees_with_scipy_and_torchmetrics(size, count):
    real, fake = torch.randn(count, size), torch.randn(count + 3, size) @ torch.randn(size, size) + 0.5
    moments = [(x.double().mean(0), torch.cov(x.double().T)) for x in (real, fake)]
    (m1, c1), (m2, c2) = moments
    found = frechet_distance(real, fake)
    assert found == pytest.approx(_compute_fid(m1, c1, m2, c2).item(), rel=1e-4)
    if count > size:
        root = linalg.sqrtm(c1.numpy() @ c2.numpy()).real
        expected = (m1 - m2).square().sum().item() + np.trace(c1.numpy() + c2.numpy() - 2 * root)
        assert found == pytest.approx(expected, rel=1e-8)


def test_frechet_of_identical_sets_is_zero_and_the_order_does_not_matter():
    a, b = torch.randn(50, 8), torch.randn(60, 8) * 2
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(a, a[torch.randperm(50)]) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    assert frechet_distance(a, a + 3.0) == pytest.approx(8 * 9.0, rel=1e-4)


@pytest.mark.parametrize(
    ("real", "fake"),
    [((1, 4), (5, 4)), ((5, 4), (5, 3)), ((5,), (5,)), ((5, 4, 1), (5, 4, 1))],
)
def test_frechet_refuses_other_shapes(real, fake):
    with pytest.raises(CourseError, match="Fréchet"):
        frechet_distance(torch.zeros(real), torch.zeros(fake))


def test_frechet_refuses_what_is_not_finite():
    with pytest.raises(CourseError, match="not finite"):
        frechet_distance(torch.randn(5, 2), torch.full((5, 2), float("nan")))


def test_diversity():
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert diversity(points) == pytest.approx((5.0 + 0.0) / 2)
    square = torch.tensor([[[0.0], [1.0], [3.0]]])
    assert diversity(square) == pytest.approx((1 + 3 + 2) / 3)


def test_diversity_of_equal_samples_is_zero_however_many():
    assert diversity(torch.randn(2, 1, 64).repeat(1, 40, 1) * 100) == 0.0


@pytest.mark.parametrize("shape", [(3, 1, 4), (3, 4), (0,)])
def test_diversity_refuses_other_shapes(shape):
    with pytest.raises(CourseError, match="diversity"):
        diversity(torch.zeros(shape))


# --- the judge --------------------------------------------------------------------------------------------------------


def network():
    return freeze(Classifier(ClassifierConfig({"subgroup": 5, "style": 3}, width=4)))


def test_judge_sees_all_sizes_in_batches():
    judge, images = Judge(network()), torch.rand(260, 3, 32, 32) * 2 - 1
    features = judge.features(images)
    assert features.shape == (260, 32) and not features.requires_grad
    torch.testing.assert_close(features[240:], judge.features(images[240:]), rtol=0, atol=1e-5)
    assert judge.to("cpu") is judge


def test_judge_predicts_its_labels():
    judge, images = Judge(network()), torch.rand(4, 3, 64, 64) * 2 - 1
    labels = judge.predict(images, "style")
    assert torch.equal(labels, judge.network(images)["style"].argmax(1))
    with pytest.raises(CourseError, match=r"'weather'.*subgroup, style"):
        judge.predict(images, "weather")


def test_judge_is_loaded_from_its_checkpoint(tmp_path):
    net = network()
    save_weights(net.state_dict(), Card("avatar-judge", "classifier", vars(net.config)), tmp_path, bits=32)
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(Judge.load(folder=tmp_path).features(images), Judge(net).features(images))
    with pytest.raises(CourseError, match="judge"):
        Judge.load(folder=tmp_path / "elsewhere")
