"""Nearest neighbours, linear probes, and directions of attributes."""

import pytest
import torch

from course_lib.data import load_kinds
from course_lib.errors import CourseError
from course_lib.evaluation.scores import LinearProbe, balanced_accuracy, layer_vectors, nearest
from course_lib.experts import Classifier, ClassifierConfig, freeze


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_vector_is_its_own_nearest_neighbour():
    gallery = torch.randn(40, 3, 4, generator=generator())
    found = nearest(gallery, gallery, k=3)
    assert found.shape == (40, 3)
    assert torch.equal(found[:, 0], torch.arange(40))


def test_neighbours_are_those_of_the_angles():
    queries, gallery = torch.randn(9, 5, generator=generator()), torch.randn(30, 5, generator=generator(1))
    cosines = torch.nn.functional.cosine_similarity(
        (queries - gallery.mean(0))[:, None], (gallery - gallery.mean(0))[None], dim=2
    )
    assert torch.equal(nearest(queries, gallery, 4), cosines.argsort(1, descending=True)[:, :4])


def test_cosine_neighbours_ignore_length_and_common_offset():
    gallery = torch.randn(30, 5, generator=generator())
    gallery -= gallery.mean(0)
    assert torch.equal(nearest(3 * gallery[:6], gallery, 2), nearest(gallery[:6], gallery, 2))
    assert torch.equal(nearest(gallery[:6] + 50, gallery + 50, 1), nearest(gallery[:6], gallery, 1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 4)), "agree"),
        ((torch.zeros(2, 3), torch.zeros(2, 3), 3), "between 1"),
    ],
)
def test_impossible_searches_are_explained(arguments, words):
    with pytest.raises(CourseError, match=words):
        nearest(*arguments)


@pytest.mark.parametrize("rows", [20, 200])
def test_a_probe_recovers_a_linear_map_in_both_forms(rows):
    x, weight = torch.randn(rows, 60, generator=generator()), torch.randn(60, 4, generator=generator(1))
    probe = LinearProbe(x, x @ weight, ridge=1e-8)
    assert (probe(x) - x @ weight).square().sum() < 0.001 * (x @ weight).square().sum()
    if rows > 60:
        fresh = torch.randn(50, 60, generator=generator(2))
        assert torch.allclose(probe(fresh), fresh @ weight, atol=1e-3)


def test_both_forms_of_ridge_regression_agree():
    x, y = torch.randn(30, 30, generator=generator()), torch.randn(30, 2, generator=generator(1))
    wide = torch.cat([x, torch.zeros(30, 1)], 1)  # one more feature than rows, and it says nothing
    assert torch.allclose(LinearProbe(x, y)(x), LinearProbe(wide, y)(wide), atol=1e-4)


def test_a_class_probe_does_not_favour_the_frequent_class():
    labels = (torch.arange(400) % 20 == 0).long()
    x = torch.randn(400, 6, generator=generator())
    x[:, 0] += 2.0 * labels
    probe = LinearProbe(x, labels)
    assert balanced_accuracy(probe.predict(x), labels) > 0.75
    assert balanced_accuracy(torch.zeros(400, dtype=torch.int64), labels) == 0.5
    with pytest.raises(CourseError, match="numbers"):
        LinearProbe(x, x).predict(x)
    with pytest.raises(CourseError, match="as many"):
        LinearProbe(x, labels[:-1])


def test_layer_vectors_are_those_of_the_classifier():
    net = freeze(Classifier(ClassifierConfig({"style": 5}, width=4)))
    data = load_kinds().subset(range(6))
    vectors = layer_vectors(net, data, batch_size=4)
    images = data.batch(torch.arange(6))
    assert list(vectors) == list(net.layers)
    assert torch.allclose(vectors["logits"], net.layer(images, "logits"), atol=1e-5)
    assert torch.allclose(vectors["features"], net.layer(images, "features"), atol=1e-5)
    assert torch.allclose(vectors["late"], net.layer(images, "late").flatten(1), atol=1e-5)
    small = layer_vectors(net, data, numbers=64)
    assert small["early"].shape == (6, 4 * 16) and small["late"].shape == (6, 32)
