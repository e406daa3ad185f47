"""Checks of notebook 01, "Data and experts": each asks for a property, so any correct code passes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from course_lib.checks.registry import exercise
from course_lib.checks.result import CheckResult, passed, require
from course_lib.experts import fingerprint

__all__ = ["direction", "freeze_expert", "leaking", "psnr"]


def _right_psnr(images: Tensor, others: Tensor) -> Tensor:
    return 10 * (4.0 / (images - others).square().mean((1, 2, 3))).log10()


@exercise(
    solution=_right_psnr,
    stub=lambda images, others: torch.zeros(len(images)),
    wrong=(
        lambda images, others: 10 * (1.0 / (images - others).square().mean((1, 2, 3))).log10(),
        lambda images, others: 10 * (4.0 / (images - others).square().mean()).log10().expand(len(images)),
        lambda images, others: 10 * (2.0 / (images - others).abs().mean((1, 2, 3))).log10(),
    ),
)
def psnr(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 1: peak signal-to-noise ratio of each picture in dB, ``(images, others) -> (B,)``."""
    images = torch.rand(5, 3, 8, 8) * 2 - 1
    shift = torch.tensor([2.0, 0.2, 0.02, 0.5, 0.1])[:, None, None, None]
    value = answer(images, images + shift)
    require(
        isinstance(value, Tensor) and value.shape == (5,),
        "the result should be one number per picture, a tensor of shape (B,)",
        "average the squared differences over channels, rows and columns, dimensions 1, 2 and 3",
    )
    require(
        abs(value[0].item()) < 1e-3,
        f"a difference as large as the whole range, 2, should give 0 dB and gives {value[0].item():.2f}",
        "the peak is the width of [−1, 1], and it is squared",
    )
    require(
        abs((value[1] - value[0]).item() - 20) < 1e-3 and abs((value[2] - value[1]).item() - 20) < 1e-3,
        "a difference ten times smaller should give 20 dB more",
        "the mean of the squares goes into the logarithm to base 10",
    )
    noisy = images + torch.randn(images.shape) * shift
    require(
        (answer(images, noisy) - _right_psnr(images, noisy)).abs().max() < 1e-3,
        "pictures with different errors get wrong values",
        "one mean per picture, not one for the batch",
    )
    return passed("0 dB for the largest error, 20 dB for each factor of ten, one value per picture")


def _right_leaking(groups: Tensor, split: Tensor) -> Tensor:
    return (split != 0) & torch.isin(groups, groups[split == 0])


@exercise(
    solution=_right_leaking,
    stub=lambda groups, split: torch.zeros(len(groups), dtype=torch.bool),
    wrong=(
        lambda groups, split: torch.isin(groups, groups[split == 0]),
        lambda groups, split: (split == 2) & torch.isin(groups, groups[split == 0]),
        lambda groups, split: (split != 0) & torch.isin(groups, groups[split != 0]),
    ),
)
def leaking(answer: Callable[[Tensor, Tensor], Tensor]) -> CheckResult:
    """Exercise 2: which held-out pictures have a relative in training, ``(groups, split) -> bool (N,)``."""
    groups = torch.randint(0, 60, (200,))
    owner = torch.randint(0, 3, (60,))
    fair = answer(groups, owner[groups])
    require(
        isinstance(fair, Tensor) and fair.shape == (200,) and fair.dtype == torch.bool,
        "the result should be a boolean tensor with one entry per picture",
        "torch.isin(a, b) says for each entry of a whether it occurs in b",
    )
    require(
        not fair.any(), "a split by group leaks nothing, yet some pictures are marked", "only val and test can leak"
    )
    mixed = torch.randint(0, 3, (200,))
    found, expected = answer(groups, mixed), _right_leaking(groups, mixed)
    require(expected.any() and found.any(), "a random split leaks, yet no picture is marked", "look at their groups")
    require(
        not found[mixed == 0].any(), "training pictures are marked; they are not held out", "split is 0 for training"
    )
    require(
        bool((found == expected).all()),
        f"{int((found != expected).sum())} of 200 pictures are judged wrongly",
        "held out means val or test; the relatives that matter are those in the training part",
    )
    return passed("silent on a split by group, and every relative found in a random one")


def _right_direction(latents: Tensor, values: Tensor, groups: Tensor, a: int, b: int) -> Tensor:
    differences = []
    for group in groups.unique():
        first, second = latents[(groups == group) & (values == a)], latents[(groups == group) & (values == b)]
        if len(first) and len(second):
            differences.append(second.mean(0) - first.mean(0))
    return torch.stack(differences).mean(0)


def _unmatched(latents: Tensor, values: Tensor, a: int, b: int) -> Tensor:
    return latents[values == b].mean(0) - latents[values == a].mean(0)


@exercise(
    solution=_right_direction,
    stub=lambda latents, values, groups, a, b: torch.zeros(latents.shape[1]),
    wrong=(
        lambda latents, values, groups, a, b: _unmatched(latents, values, a, b),
        lambda latents, values, groups, a, b: _right_direction(latents, values, groups, b, a),
        lambda latents, values, groups, a, b: torch.nn.functional.normalize(
            _right_direction(latents, values, groups, a, b), dim=0
        ),
    ),
)
def direction(answer: Callable[[Tensor, Tensor, Tensor, int, int], Tensor]) -> CheckResult:
    """Exercise 3: attribute direction from relatives only, ``(latents, values, groups, a, b) -> (D,)``."""
    true = torch.tensor([[0.0] * 6, [1.0, -2.0, 0.5, 3.0, 0.0, -1.0], [-1.0, 1.0, 0.0, 0.0, 2.0, 0.0]])
    own = torch.randn(40, 6) * 4
    groups = torch.arange(40).repeat_interleave(3)
    values = torch.arange(3).repeat(40)
    # Half of the groups never have value 0, and these groups lie elsewhere: a difference of plain means sees that.
    keep = ~((groups >= 20) & (values == 0))
    own[20:] += 5.0
    groups, values = groups[keep], values[keep]
    order = torch.randperm(len(groups))
    groups, values = groups[order], values[order]
    latents = own[groups] + true[values]
    for a, b in ((0, 1), (2, 1)):
        found, expected = answer(latents, values, groups, a, b), true[b] - true[a]
        require(
            isinstance(found, Tensor) and found.shape == (6,),
            "the result should be one vector, of shape (D,)",
            "average over pictures, dimension 0",
        )
        require((found + expected).abs().max() > 1e-4, "the direction points backwards", "from a to b is b minus a")
        close = torch.nn.functional.cosine_similarity(found, expected, dim=0) > 1 - 1e-5
        require(
            close,
            "the direction also contains what else differs between the two sets of pictures",
            "compare only pictures of one group, then average over the groups that have both values",
        )
        require(
            (found - expected).abs().max() < 1e-4,
            "the direction is right and its length is not",
            "do not normalise: one step should be one change of the attribute",
        )
    return passed("the planted attribute is found exactly, although the groups are not balanced")


def _right_freeze(module: nn.Module) -> nn.Module:
    module.eval().requires_grad_(False)
    for part in module.modules():
        part.train = lambda mode=True, part=part: part
    return module


def _only_gradients(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


def _only_eval(module: nn.Module) -> nn.Module:
    return module.eval()


def _eval_and_gradients(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


class _Detached(nn.Module):
    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = _right_freeze(module)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


@exercise(
    solution=_right_freeze,
    stub=lambda module: module,
    wrong=(_only_gradients, _only_eval, _eval_and_gradients, _Detached),
)
def freeze_expert(answer: Callable[[nn.Module], nn.Module]) -> CheckResult:
    """Exercise 4: a network that training something on top of it cannot change, ``module -> module``."""
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
