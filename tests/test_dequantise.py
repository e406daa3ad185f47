"""The dequantiser: class embeddings become a density in which the class can still be told."""

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.training import Budget, train
from course_lib.translation.dequantise import DequantiserMethod, class_distance, nearest_class, start_dequantiser

EMBEDDINGS = torch.randn(12, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def trained():
    network = start_dequantiser(24, width=32, code=8)
    method = DequantiserMethod(EMBEDDINGS, network, 0.3, 3e-3)
    history = train(method, Budget(400), 120, progress=False, checkpoint_every=0, preview_every=0, log_every=100)
    return history.averaged["dequantiser"].frozen(), method, history


def neighbours(network, copies=200):
    many = EMBEDDINGS.repeat(copies, 1)
    return network(many, torch.Generator().manual_seed(0)), many


def test_reconstructions_are_a_cloud_around_their_class(trained):
    network, method, history = trained
    found, many = neighbours(network)
    assert history.curve["loss/dequantiser"][-1] < history.curve["loss/dequantiser"][0]
    label = torch.arange(12).repeat(200)
    assert (nearest_class(found, EMBEDDINGS) == label).float().mean() > 0.97
    # A cloud: no class collapses to its point, and its width is of the order that was asked for.
    spread = (found - many).view(200, 12, 24).std(0).square().mean().sqrt()
    assert 0.2 * method.width < spread < 1.5 * method.width
    assert len(found.unique(dim=0)) == len(found)


def test_a_wider_cloud_on_request():
    widths = [DequantiserMethod(EMBEDDINGS, start_dequantiser(24, 8, 4), spread).width for spread in (0.1, 0.4)]
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
