"""Checks of notebooks 00 to 06, experts, flows, translations: each asks for a property, so any correct code passes."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.checks.exercise import close, descend, exercise, require, require_close, require_shape
from course_lib.cinn.flow import ConditionalFlow, FlowConfig
from course_lib.cinn.layers import ridge_regression
from course_lib.data.image_set import resize
from course_lib.experts.protocol import fingerprint
from course_lib.translation.translator import Translator

_PER_SAMPLE = "sum over the coordinates, dimension 1, and keep the batch"


def _normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _toy_flow() -> ConditionalFlow:
    """A small conditional flow in float64 that is far from the identity: latents ``(B, 4)``, conditions ``(B, 3)``."""
    generator = torch.Generator().manual_seed(0)
    config = FlowConfig(dim=4, condition_shape=(3,), hidden_dim=16, hidden_depth=1, blocks=3)
    flow = ConditionalFlow(config, generator).double().eval()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return flow


def _two_labels(count: int) -> Tensor:
    """Label 0 and label 1 as one-hot conditions, ``(2, count, 3)``."""
    return torch.eye(3, dtype=torch.float64)[torch.tensor([[0] * count, [1] * count])]


# --- 00 and 01: experts -----------------------------------------------------------------------------------------------


@exercise("nb00")
def shrink(answer: Callable[[Tensor, int], Tensor]) -> str:
    """The exercise: area averaging, which keeps the mean of the picture and uses every pixel."""
    for large, small in ((64, 16), (32, 16), (24, 8)):
        x = torch.rand(2, 3, large, large) * 2 - 1
        found = answer(x, small)
        require_shape(found, (2, 3, small, small), "cut into square blocks")
        spike = torch.full((1, 3, large, large), -1.0)
        spike[..., 1, 1] = 1.0
        require(answer(spike, small)[0, 0, 0, 0] > -1, "some pixels are never looked at", "average, do not pick")
        require_close(found, resize(x, small), "the blocks are not the expert's", "every pixel must count equally")
    return "every pixel counts equally, as in course_lib.data.resize"


@exercise("nb01")
def probe(answer: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> str:
    """Exercise 1: a ridge-regression classifier, ``(x, labels, new, ridge) -> classes of new (M,)``."""
    centres, labels = 2 * _normal(3, 12), torch.randint(0, 3, (400,))
    x = (centres[labels] + _normal(400, 12)) * torch.logspace(-2, 2, 12, dtype=torch.float64) + 5
    found = answer(x, labels, x, 0.1)
    require_shape(found, (400,), "one class number for each row of `new`: end with argmax over dimension 1")
    require(not found.is_floating_point(), "the result should be class numbers", "end with argmax over dimension 1")
    hint = "standardise every column: numbers of very different size stand side by side"
    require((found == labels).double().mean() > 0.95, "well separated classes are mixed up", hint)
    some = answer(x, labels, x[labels == 1][:20], 0.1)
    hint = "standardise `new` with mean and standard deviation of the training rows, not with its own"
    require((some == 1).double().mean() > 0.9, "rows of one class alone are put into other classes", hint)
    many, scale = _normal(300, 12), x.std(0) + 1e-6
    # A penalty on the diagonal of the sum of squares, which is N − 1 in each standardised column.
    weight, offset = ridge_regression([(x / scale, F.one_hot(labels))], 0.1 * 400 / 399)
    same = torch.equal(answer(x, labels, many, 0.1), (many / scale @ weight.T + offset).argmax(1))
    hint = "the penalty is ridge times the number of rows, on the diagonal; centre the one-hot labels as well"
    require(same, "the classes differ from those of ridge regression", hint)
    return "the same classes as ridge regression on standardised rows"


@exercise("nb01")
def freeze_expert(answer: Callable[[nn.Module], nn.Module]) -> str:
    """Exercise 2: a network that training something on top of it cannot change, ``module -> module``."""
    expert = answer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()))
    require(isinstance(expert, nn.Module), "the result should be the network", "return the module")
    model = nn.Sequential(expert, nn.Linear(4 * 6 * 6, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    before, images = fingerprint(expert), torch.randn(8, 3, 8, 8, requires_grad=True)
    # Every training loop calls train() at its start.
    descend(optimizer, lambda: (model.train()(images) - 1).square().mean(), 3)
    passes, hint = images.grad is not None, "switch off the gradients of the parameters, not the whole computation"
    require(passes, "gradients no longer reach what lies before the expert", hint)
    names = [name for name, parameter in expert.named_parameters() if parameter.requires_grad]
    require(not names, f"parameters still ask for gradients: {', '.join(names)}", "requires_grad_(False)")
    hint = "a parent's train() reaches its children through their own train(); make that do nothing"
    require(fingerprint(expert) == before, "its buffers moved: batch norm kept counting after model.train()", hint)
    require_close(expert(images), expert(images), "two calls on one input differ: dropout is active", hint, 0.0)
    return "three training steps on top, and not a bit of weights or buffers moved"


# --- 02 and 03: flows -------------------------------------------------------------------------------------------------


@exercise("nb02")
def log_prob(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Exercise 1: the log-density of ``z`` from the flow's two outputs, ``(v, log_det) -> (B,)``."""
    for dim in (2, 5):
        matrix, z = _normal(dim, dim) + 2 * torch.eye(dim, dtype=torch.float64), _normal(32, dim)
        value = answer(z @ matrix.T, torch.linalg.slogdet(matrix).logabsdet.expand(len(z)))
        require_shape(value, (len(z),), _PER_SAMPLE)
        known = torch.distributions.MultivariateNormal(z.new_zeros(dim), precision_matrix=matrix.T @ matrix)
        missing = close(value - 0.5 * dim * math.log(2 * math.pi), known.log_prob(z))
        require(not missing, f"the constant is missing: in {dim} dimensions the integral is above 1")
        message = f"in {dim} dimensions the value is not that of the Gaussian which a linear flow gives"
        require_close(value, known.log_prob(z), message, "log q(v) + log|det|, both summed over coordinates")
    return "the density of a linear flow is the Gaussian that theory asks for, in 2 and in 5 dimensions"


@exercise("nb02")
def coupling(forward: Callable[..., tuple[Tensor, Tensor]], inverse: Callable[..., Tensor]) -> str:
    """Exercise 2: a conditional double coupling with the scale ``0.5 + sigmoid``, and its inverse. ``(h (B, D), e (B,
    K), four networks) -> y, log_det (B,)`` and ``(y, e, networks) -> h``."""
    h, e = _normal(16, 6), _normal(16, 2)
    nets = tuple(lambda x, w=w: torch.sin(x @ w) for w in _normal(4, 5, 3))
    y, log_det = forward(h, e, nets)
    (a, b), (scale0, shift0, scale1, shift1) = h.chunk(2, 1), nets
    first = torch.cat([a, e], 1)
    b = b * (0.5 + scale0(first).sigmoid()) + shift0(first)
    second = torch.cat([b, e], 1)
    a = a * (0.5 + scale1(second).sigmoid()) + shift1(second)
    require_shape(y, h.shape, "put the halves side by side again")
    require(not close(y, torch.cat([a, b], 1)), "the halves are in the wrong order", "the output is b' and then a'")
    hint = "the networks read torch.cat([a, e], 1)"
    require_close(y[:, :3], b, "b' is not b * (0.5 + sigmoid(s0)) + t0 of the first half and the embedding", hint)
    hint = "the second step reads the new b'"
    require_close(y[:, 3:], a, "a' is not a * (0.5 + sigmoid(s1)) + t1 of b' and the embedding", hint)
    hint = "undo the second step first; take the shift away, then divide by the scale"
    require_close(inverse(y, e, nets), h, "the inverse does not bring h back", hint)
    require_shape(log_det, (len(h),), _PER_SAMPLE)
    # Samples do not meet each other, so the derivative of their sum holds the Jacobian of each.
    jacobians = torch.autograd.functional.jacobian(lambda x: forward(x, e, nets)[0].sum(0), h).transpose(0, 1)
    right, hint = torch.linalg.slogdet(jacobians).logabsdet, "add the logarithms of the scales of both steps"
    require_close(log_det, right, "the log-determinant differs from the one autograd finds", hint)
    return "invertible, and the log-determinant agrees with autograd"


@exercise("nb02")
def keep_residual(answer: Callable[[ConditionalFlow, Tensor, Tensor, Tensor], Tensor]) -> str:
    """Exercise 3: keep the residual, change the condition: ``(flow, z, own, other) -> z_new``."""
    flow, z, (own, other) = _toy_flow(), _normal(8, 4), _two_labels(8)
    with torch.no_grad():
        moved = answer(flow, z, own, other)
        require_shape(moved, z.shape, "flow(z, own) returns two things: the residual and the log-determinant")
        hint = "v comes from z and the condition z belongs to; the other condition enters on the way back"
        require_close(flow(moved, other)[0], flow(z, own)[0], "under the other condition the new z has another v", hint)
    return "v is kept, so that there and back returns every point"


@exercise("nb03")
def consistency(answer: Callable[[Tensor, Tensor], float]) -> str:
    """Exercise 1: explained share of variance of ``(N, K)`` rows, ``(wanted, found) -> share``."""
    wanted = 3 * _normal(500, 4) + 5
    mean = wanted.mean(0)
    shift = 1 - wanted.numel() / float((wanted - mean).square().sum())
    for what, found, share, hint in (
        ("a perfect copy", wanted, 1, "1 minus an error"),
        ("the mean row", mean.expand_as(wanted), 0, "divide by the squared distance of the rows from their mean"),
        ("a shift by 1", wanted + 1, shift, "compare the values themselves; a correlation forgives shifts and scales"),
    ):
        require(abs(float(answer(wanted, found)) - share) < 1e-8, f"{what} does not score {share:.3g}", hint)
    return "1 for a copy, 0 for the mean, and shifts are punished"


@exercise("nb03")
def training(answer: Callable[[nn.Module, Tensor, Tensor, int], float]) -> str:
    """Exercise 2: maximum likelihood, ``(flow, latent, condition, steps) -> mean loss of the last ten steps``."""
    # Latents are the condition, turned, plus Gaussian noise of a known size: their conditional entropy is known.
    scale, dim, condition = 0.3, 4, torch.randn(3000, 3)
    latent = condition @ torch.randn(3, dim) + scale * torch.randn(3000, dim)
    entropy = dim * (0.5 + math.log(scale))
    config = FlowConfig(dim=dim, condition_shape=(3,), hidden_dim=32, hidden_depth=1, blocks=3)
    flow = ConditionalFlow(config, torch.Generator().manual_seed(0))
    found = float(answer(flow, latent, condition, 400))
    with torch.no_grad():
        v, log_det = flow.eval()(latent, condition)
        reached = float((0.5 * v.square().sum(1) - log_det).mean())
    hint = "does the optimiser step, is the log-determinant subtracted, does every latent get its own condition?"
    require(reached < entropy + 0.5, f"the flow ends {reached - entropy:.1f} nats above the entropy of the data", hint)
    require(abs(found - reached) < 1.0, "the result is not the mean loss of the last steps", "average ten loss.item()")
    return "the flow comes within half a nat of the entropy of the data"


@exercise("nb03")
def carry_residual(answer: Callable[[Translator, Tensor, Tensor, Tensor], Tensor]) -> str:
    """Exercise 3: the residual of one picture under another's condition, ``(translator, picture, own, other)``."""
    # Pictures are vectors (B, 4), and a condition is its own reading.
    labels = SimpleNamespace(condition_shape=(3,), encode=lambda x: x)
    pixels = SimpleNamespace(latent_dim=4, encode=lambda x: 2 * x, decode=lambda latent: latent / 2)
    translator, picture, (own, other) = Translator(labels, _toy_flow(), pixels), _normal(6, 4), _two_labels(6)
    with torch.no_grad():
        moved = answer(translator, picture, own, other)
        require_shape(moved, picture.shape, "the last step decodes a latent with translator.target")
        wanted, message = translator.residual(picture, own), "under its new condition the picture has another v"
        hint = "encode with the target expert, flow with `own`, flow back with `other`, decode with the target expert"
        require_close(translator.residual(moved, other), wanted, message, hint, 1e-8)
    return "the new pictures have the old residuals under the new conditions"


# --- 04: text ---------------------------------------------------------------------------------------------------------


@exercise("nb04")
def reading(answer: Callable[[Tensor, Tensor, float], Callable[[Tensor], Tensor]]) -> str:
    """Exercise 1: ridge regression, ``(embeddings, wanted, ridge) -> (embeddings -> readings)``."""
    embeddings = _normal(200, 7) * torch.linspace(0.2, 2, 7, dtype=torch.float64) + 3
    wanted = (embeddings[:, :3] + 0.5 * _normal(200, 3) > 3).double()
    new = _normal(9, 7) + 3
    for ridge in (0.01, 0.5):
        read, (weight, offset) = answer(embeddings, wanted, ridge), ridge_regression([(embeddings, wanted)], ridge)
        centre, hint = read(embeddings.mean(0, keepdim=True))[0], "centre both, add the targets' mean at the end"
        require_close(centre, wanted.mean(0), "the mean embedding is not read as the mean of the targets", hint, 1e-6)
        hint = "divide x.T @ x by the number of rows; the penalty is ridge times the mean of its diagonal"
        require_close(read(new), new @ weight.T + offset, f"with ridge = {ridge} readings are other ones", hint, 1e-6)
    return "the map is the ridge regression"


@exercise("nb04")
def dequantised_target(answer: Callable[[Tensor, Tensor, Callable, Callable], tuple[Tensor, Tensor]]) -> str:
    """Exercise 2: a training item for BigGAN, ``(z, embedding, render, dequantise) -> (target, picture)``."""
    z, embedding = _normal(12, 5), _normal(12, 3)

    def render(noise: Tensor, given: Tensor) -> Tensor:
        return torch.cat([noise.sum(1, keepdim=True), given], 1)

    target, picture = answer(z, embedding, render, lambda e: e + 0.1 * torch.randn_like(e))  # random neighbours
    require_shape(target, (12, 8), "torch.cat along dimension 1")
    require(torch.equal(target[:, :5], z), "the noise is not in front, unchanged", "z comes first, and only e is moved")
    moved = (target[:, 5:] - embedding).abs()
    require((moved > 0).all(), "the embedding in the target is the clean one", "pass it through dequantise")
    require(moved.max() < 1, "the second part of the target is no neighbour of the embedding")
    hint = "the caption has to describe the class itself; dequantise serves the flow alone"
    require(torch.equal(picture, render(z, embedding)), "the picture was not rendered from the clean embedding", hint)
    return "noise first, a random neighbour of the embedding second, and the picture from the clean one"


@exercise("nb04")
def same_residual(answer: Callable[[ConditionalFlow, Tensor, Tensor], Tensor]) -> str:
    """Exercise 3: every sentence under every residual, ``(flow, condition, v) -> (sentences, samples, D)``."""
    flow, condition, v = _toy_flow(), _normal(4, 3), _normal(5, 4)
    with torch.no_grad():
        latent = answer(flow, condition, v)
        require_shape(latent, (4, 5, 4), "20 latents in one pass, and view() at the end")
        found = flow.encode(latent.flatten(0, 1), condition.repeat_interleave(5, 0))
        message = "under its own sentence a latent does not have the residual of its column"
        hint = "repeat_interleave the sentences and repeat the residuals, not the other way round"
        require_close(found, v.repeat(4, 1), message, hint, 1e-8)
    return "row by sentence, column by residual"


# --- 05: unpaired pictures --------------------------------------------------------------------------------------------


@exercise("nb05")
def flip(answer: Callable[[Tensor, slice, int], Tensor]) -> str:
    """Exercise 1: one attribute of joined one-hots set to a value, ``(condition, block, value)``."""
    blocks = (slice(0, 3), slice(3, 7), slice(7, 9))
    condition = torch.cat([torch.eye(size)[torch.randint(size, (8,))] for size in (3, 4, 2)], 1)
    before = condition.clone()
    for block, value in ((blocks[1], 2), (blocks[2], 1), (blocks[0], 2)):
        changed, wanted = answer(condition, block, value), before.clone()
        wanted[:, block] = torch.eye(block.stop - block.start)[value]
        require(torch.equal(condition, before), "the condition that was given has changed", "work on a clone")
        hint = "clear the block, and no other, before setting a single 1; `block.start` is where it begins"
        require_close(changed, wanted, "the block is not the one-hot vector of the value, or another has changed", hint)
    return "one attribute is set, the others are as they were"


@exercise("nb05")
def translator(answer: Callable[[Tensor, Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]) -> str:
    """Exercise 2: a linear translator, ``(latents, conditions) -> (latent, own, other) -> latent``."""
    condition = torch.cat([torch.eye(3)[torch.randint(3, (400,))], torch.eye(2)[torch.randint(2, (400,))]], 1)
    means, style, own = 3 * torch.randn(5, 6), torch.randn(400, 6), torch.randn(8, 6)
    translate = answer(condition @ means + style - (style - style.mean(0)).mean(0), condition)
    first, second = (torch.cat([torch.eye(3)[[label] * 8], torch.eye(2)[[1] * 8]], 1) for label in (0, 2))
    z = first @ means + own
    moved = translate(z, first, second)
    require_shape(moved, z.shape, "subtract the prediction under `own`, add that under `other`")
    hint = "least squares on centred conditions and latents; a large penalty makes the prediction too small"
    require((moved - second @ means - own).abs().max() < 0.6, "latents are not at the other label's pictures", hint)
    hint = "keep the residual: it is all that the prediction does not explain"
    require_close(translate(moved, second, first), z, "there and back does not return the latent", hint, 1e-3)
    return "the label is exchanged, the residual is kept"


@exercise("nb05")
def top_k(answer: Callable[[Tensor, Tensor, int], float]) -> str:
    """Exercise 3: retrieval of the true counterpart, ``(queries, gallery, k) -> share``; row i belongs to row i."""
    gallery = torch.randn(40, 8)
    for noise in (0.0, 0.6, 1.5):
        # Two rows lie close together, so that exchanging queries and gallery is noticed.
        queries = gallery + noise * torch.randn(40, 8) * torch.linspace(0.2, 2.0, 40)[:, None]
        for k in (1, 5):
            nearest = torch.cdist(queries, gallery).topk(k, dim=1, largest=False).indices
            share = (nearest == torch.arange(40)[:, None]).any(1).float().mean().item()
            message = f"with k = {k} and noise {noise} the share of found counterparts is another one"
            hint = "for each query the k gallery rows with the smallest distance; is row i among them?"
            require(abs(float(answer(queries, gallery, k)) - share) < 1e-6, message, hint)
    counted = abs(float(answer(gallery[:7] + 0.01, gallery, 3)) - 1) < 1e-6
    require(counted, "the gallery may be larger than the set of queries", "count the queries")
    return "counterparts are counted right for every k"


# --- 06: what is kept -------------------------------------------------------------------------------------------------


@exercise("nb06")
def spread(answer: Callable[[Tensor], float]) -> str:
    """Exercise 1: how much samples of one input differ, ``(N, samples, 3, S, S) -> standard deviation of a pixel``."""
    base = torch.randn(50, 1, 3, 8, 8)
    alike = abs(float(answer(base.expand(-1, 4, -1, -1, -1)))) < 1e-6
    require(alike, "samples that are all alike do not score 0", "compare samples of one input with each other")
    hint = "average the variances over inputs and pixels, then take the root; two samples need the unbiased variance"
    for deviation in (0.1, 0.5):
        error = abs(float(answer(base + deviation * torch.randn(50, 2, 3, 8, 8))) - deviation)
        require(error < 0.03 * deviation, f"noise of standard deviation {deviation} is not measured as that", hint)
    return "0 for equal samples, and the standard deviation of known noise, whatever the inputs"


@exercise("nb06")
def source(answer: Callable[[Callable, Tensor, int], Callable]) -> str:
    """Exercise 2: any expert's output as a condition, ``(expert, pictures, side) -> function of pictures``."""
    pictures, other = torch.randn(40, 3, 16, 16), 2 * torch.randn(10, 3, 16, 16) + 1
    # Places differ, so that statistics per channel and per place are not the same; channels have means of their own.
    slope = torch.linspace(-2, 2, 16)

    def maps(x: Tensor) -> Tensor:
        return torch.cat([x, 3 * x[:, :1] + slope + 5], 1)

    def vectors(x: Tensor) -> Tensor:
        return maps(x).mean((2, 3))

    def pooled(x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(maps(x), 4)

    condition = answer(maps, pictures, 4)(pictures)
    require_shape(condition, (40, 4, 4, 4), "F.adaptive_avg_pool2d(output, side) for outputs with four axes")
    places = "one mean and one standard deviation for each channel of the pooled output: axes 0, 2 and 3"
    inner = "mean and standard deviation are fixed by the training pictures, outside the inner function"
    axes = "vectors are not pooled; their statistics go over axis 0 only"
    for expert, right, over, given, message, hint in (
        (maps, pooled, (0, 2, 3), pictures, "maps are not standardised channel by channel", places),
        (maps, pooled, (0, 2, 3), other, "other pictures change the statistics", inner),
        (vectors, vectors, 0, other, "an expert that gives vectors is not standardised in every coordinate", axes),
    ):
        std, mean = torch.std_mean(right(pictures), over, keepdim=True)
        require_close(answer(expert, pictures, 4)(given), (right(given) - mean) / std, message, hint, 1e-3)
    return "maps are pooled, vectors are not, and the training pictures fix all statistics"


@exercise("nb06")
def cross(answer: Callable[[ConditionalFlow, Tensor, Tensor], Tensor]) -> str:
    """Exercise 3: every residual under every condition, ``(flow, latent, condition) -> (N, N, D)``."""
    flow, latent, condition = _toy_flow(), _normal(4, 4), _normal(4, 3)
    with torch.no_grad():
        grid = answer(flow, latent, condition)
        require_shape(grid, (4, 4, 4), "repeat residuals along the columns and conditions along the rows; view at last")
        hint = "a residual under its own condition is the latent that it came from"
        require_close(grid.diagonal().T, latent, "the diagonal does not give the latents back", hint, 1e-8)
        found, wanted = flow(grid[1], condition)[0], flow(latent, condition)[0][1].expand(4, 4)
        hint = "row i has the residual of i, column j the condition of j; look at what changes along a row"
        require_close(found, wanted, "under the column's conditions row 1 does not keep one residual", hint, 1e-8)
    return "the diagonal reconstructs, and every row carries one residual through all conditions"


@exercise("nb06")
def shape_share(answer: Callable[[Tensor, Tensor, Tensor], float]) -> str:
    """Exercise 4: shape bias of answers to cue conflicts, ``(named, shape, texture) -> share``, all ``int64 (N,)``."""
    shape, texture = torch.arange(100) % 10, (torch.arange(100) % 10 + 1) % 10
    named = torch.full((100,), -1)
    named[:30], named[30:40] = shape[:30], texture[30:40]
    message = "30 decisions for the shape, 10 for the texture and 60 for neither are not a share of 0.75"
    hint = "decisions for neither cue say nothing about the preference: leave them out of the denominator"
    require(abs(float(answer(named, shape, texture)) - 0.75) < 1e-6, message, hint)
    texture[50:60] = named[50:60] = shape[50:60]
    hint = "where shape and texture have the same class there is no conflict: leave these pictures out"
    require(abs(float(answer(named, shape, texture)) - 0.75) < 1e-6, "pairs of one class change the result", hint)
    return "only conflicts count, and of them only the decisions for one of the two cues"
