"""The dequantiser: class embeddings become a density in which the class can still be told."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.experts import freeze
from course_lib.training import Budget, train
from course_lib.translation.text import (
    DequantiserMethod,
    class_distance,
    likelihood_width,
    nearest_class,
    start_dequantiser,
)

EMBEDDINGS = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained():
    network = start_dequantiser(EMBEDDINGS, 0.3)
    method = DequantiserMethod(EMBEDDINGS, network, 0.3)
    history = train(method, Budget(200), 120, progress=False, checkpoint_every=0, preview_every=0, log_every=40)
    return freeze(history.averaged["dequantiser"]), method, history


def neighbours(network, copies=200):
    many = EMBEDDINGS.repeat(copies, 1)
    return network(many, torch.Generator().manual_seed(0)), many


def test_reconstructions_are_a_cloud_around_their_class(trained):
    network, method, history = trained
    found, many = neighbours(network)
    assert history.curve["loss/dequantiser"][-1] < history.curve["loss/dequantiser"][0]
    label = torch.arange(40).repeat(200)
    assert (nearest_class(found, EMBEDDINGS) == label).float().mean() > 0.97
    # A cloud: no class collapses to its point, and its width is of the order that was asked for.
    spread = (found - many).view(200, 40, 24).std(0).square().mean().sqrt()
    assert 0.4 * method.width < spread < 1.5 * method.width
    # In every direction: on a surface there would be no density.
    values = torch.linalg.svdvals((found - many).view(200, 40, 24)[:, 0]) / 200**0.5
    assert values.min() > 0.02 * values.max() and values.min() > 0


def test_the_start_is_already_an_autoencoder():
    network = start_dequantiser(EMBEDDINGS, 0.3)
    posterior = network.posterior(EMBEDDINGS)
    torch.testing.assert_close(network.decoder(posterior.mean), EMBEDDINGS, rtol=0, atol=1e-4)
    assert abs(posterior.mean.std() - 1) < 0.1 and posterior.log_variance.std() < 1e-5
    assert all(p.requires_grad for p in network.parameters())


def test_a_wider_cloud_on_request():
    widths = [likelihood_width(EMBEDDINGS, spread) for spread in (0.1, 0.4)]
    assert widths[1] == pytest.approx(4 * widths[0])
    assert widths[0] * 24**0.5 == pytest.approx(0.1 * class_distance(EMBEDDINGS))


def test_the_same_seed_gives_the_same_neighbours_and_no_gradient(trained):
    network = trained[0]
    first, second = (network(EMBEDDINGS, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad
    assert not any(p.requires_grad for p in network.parameters())


def test_distances_between_classes():
    square = torch.tensor([[0.0, 0], [0, 3], [4, 0]])
    assert class_distance(square) == pytest.approx((3 + 3 + 4) / 3)
    assert nearest_class(torch.tensor([[0.1, 2.0], [3.0, 0.4]]), square).tolist() == [1, 2]
    with pytest.raises(CourseError, match="same embedding"):
        class_distance(torch.zeros(2, 3))
    with pytest.raises(CourseError, match="two"):
        class_distance(torch.zeros(1, 3))
