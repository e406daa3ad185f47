"""Checks of notebook 01, "Data and experts": each asks for a property, so any correct code passes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.checks.exercise import CheckResult, exercise, passed, require, require_shape
from course_lib.experts.protocol import fingerprint

__all__ = ["freeze_expert", "probe"]


def _right_probe(x: Tensor, labels: Tensor, new: Tensor, ridge: float) -> Tensor:
    mean, std = x.mean(0), x.std(0) + 1e-6
    h, y = (x - mean) / std, nn.functional.one_hot(labels).to(x)
    offset = y.mean(0)
    gram = h.T @ h + ridge * len(x) * torch.eye(h.shape[1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, h.T @ (y - offset))
    return ((new - mean) / std @ weight + offset).argmax(1)


@exercise
def probe(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> CheckResult:
    """Exercise 1: a ridge-regression classifier, ``(x, labels, new, ridge) -> classes of new (M,)``."""
    centres = torch.randn(3, 12, dtype=torch.float64) * 2
    labels = torch.randint(0, 3, (400,))
    noise = torch.randn(400, 12, dtype=torch.float64)
    scale = torch.logspace(-2, 2, 12, dtype=torch.float64)
    x = (centres[labels] + noise) * scale + 5
    found = answer(x, labels, x, 0.1)
    require_shape(found, (400,), "one class number for each row of `new`: end with argmax over dimension 1")
    require(not found.is_floating_point(), "the result should be class numbers", "end with argmax over dimension 1")
    require(
        (found == labels).double().mean() > 0.95,
        "well separated classes are mixed up",
        "standardise every column: numbers of very different size stand side by side",
    )
    one_class = x[labels == 1][:20]
    require(
        (answer(x, labels, one_class, 0.1) == 1).double().mean() > 0.9,
        "rows of one class alone are put into other classes",
        "standardise `new` with mean and standard deviation of the training rows, not with its own",
    )
    many = torch.randn(300, 12, dtype=torch.float64)
    require(
        torch.equal(answer(x, labels, many, 0.1), _right_probe(x, labels, many, 0.1)),
        "the classes differ from those of ridge regression",
        "the penalty is ridge times the number of rows, on the diagonal; centre the one-hot labels as well",
    )
    return passed("the same classes as ridge regression on standardised rows")


@exercise
def freeze_expert(answer: Callable[[nn.Module], nn.Module]) -> CheckResult:
    """Exercise 2: a network that training something on top of it cannot change, ``module -> module``."""
    expert = answer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()))
    require(isinstance(expert, nn.Module), "the result should be the network", "return the module")
    head = nn.Linear(4 * 6 * 6, 1)
    model = nn.Sequential(expert, head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    before = fingerprint(expert)
    images = torch.randn(8, 3, 8, 8, requires_grad=True)
    for _ in range(3):
        model.train()  # what every training loop does at its start
        optimizer.zero_grad()
        loss = (model(images) - 1).square().mean()
        loss.backward()
        optimizer.step()
    require(
        any((p.grad is not None) for p in head.parameters()) and images.grad is not None,
        "gradients no longer reach what lies before the expert",
        "switch off the gradients of the parameters, not the whole computation",
    )
    names = [name for name, parameter in expert.named_parameters() if parameter.requires_grad]
    require(not names, f"parameters still ask for gradients: {', '.join(names)}", "requires_grad_(False)")
    require(
        fingerprint(expert) == before,
        "its buffers moved: batch norm kept counting after model.train()",
        "a parent's train() reaches its children through their own train(); make that do nothing",
    )
    require(
        torch.equal(expert(images), expert(images)),
        "two calls on one input differ: dropout is active",
        "evaluation mode must survive a parent's train()",
    )
    return passed("three training steps on top, and not a bit of weights or buffers moved")
