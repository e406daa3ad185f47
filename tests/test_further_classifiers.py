"""The two further classifiers that look at translations."""

import pytest
import torch

from course_lib.data import ImageSet
from course_lib.experts.classifier import ClassifierConfig
from course_lib.recipes.further_classifiers import RobustClassifierMethod
from course_lib.training import Budget, train

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0, "accelerator": "cpu", "log_every": 10}


@pytest.fixture(scope="module")
def data():
    """Two classes that differ in a faint overall brightness and in a strong stripe."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    images = 128 + 20 * torch.randn(64, 3, 16, 16, generator=generator)
    images += 4 * (2 * labels - 1)[:, None, None, None]
    images[labels == 1, :, :, 6:9] += 90
    return ImageSet("toy", images.clamp(0, 255).to(torch.uint8), {"style": labels}, {"style": ["a", "b"]})


def method(data, radius=1.0):
    torch.manual_seed(0)
    config = ClassifierConfig({"style": 2}, width=4)
    return RobustClassifierMethod(data, config, lambda images, generator: images, radius=radius)


def test_the_worst_picture_is_within_the_radius_and_worse_than_a_random_one(data):
    robust = method(data, 2.0)
    train(robust, Budget(30), 32, seed=0, **QUIET)
    net = robust.modules["classifier"].eval()
    images, labels = data.batch(torch.arange(64)), data.labels["style"][:, None]
    start = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    start = start * (2.0 / start.flatten(1).norm(dim=1))[:, None, None, None]
    changed = robust.worst(images, labels, start.clone())
    assert (changed - images).flatten(1).norm(dim=1).max() <= 2.0 + 1e-4

    def loss(x):
        return robust.parts(net(x), labels)["style"].item()

    assert loss(changed) > loss(images + start) and loss(changed) > loss(images)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_looking_for_the_worst_leaves_no_gradient_in_the_network(data):
    robust = method(data)
    images, labels = data.batch(torch.arange(8)), data.labels["style"][:8, None]
    robust.worst(images, labels, torch.zeros_like(images))
    assert all(parameter.grad is None for parameter in robust.modules["classifier"].parameters())


def test_training_against_the_worst_helps_against_the_worst(data):
    """Same steps, same pictures: the one that never met a changed picture loses more of its certainty to one."""

    def lost(radius):
        trained = method(data, radius)
        train(trained, Budget(60), 32, seed=0, **QUIET)
        trained.radius = 3.0
        net = trained.modules["classifier"].eval()
        images, labels = data.batch(torch.arange(64)), data.labels["style"][:, None]
        start = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)) * 0.01
        changed = trained.worst(images, labels, start)
        return trained.parts(net(changed), labels)["style"].item()

    assert lost(3.0) < lost(1e-6)
