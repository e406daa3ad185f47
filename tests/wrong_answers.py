"""Typical wrong answers to the exercises, two or more each: none may pass.

One function an exercise, ``nbNN_name``. It takes the parts of the right answer, as the notebook shows it, and returns
the wrong ones; each is a tuple where an answer has several parts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course_lib.evaluation import scores as distances


def nb00_shrink(right):
    return (
        lambda pictures, size: pictures[:, :, :: pictures.shape[-1] // size, :: pictures.shape[-1] // size],
        lambda pictures, size: F.interpolate(pictures, (size, size), mode="bilinear"),
        lambda pictures, size: F.max_pool2d(pictures, pictures.shape[-1] // size),
    )


def nb01_probe(right):
    def own_scale(x, labels, new, ridge):
        shifted = (new - new.mean(0)) / (new.std(0) + 1e-6) * (x.std(0) + 1e-6) + x.mean(0)
        return right(x, labels, shifted, ridge)

    return (
        own_scale,
        lambda x, labels, new, ridge: right(x, labels, new, 1e4),
        lambda x, labels, new, ridge: torch.cdist(new, x).argmin(1),
    )


def nb01_freeze_expert(right):
    class Detached(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = right(module)

        @torch.no_grad()
        def forward(self, x):
            return self.module(x)

    return (
        lambda module: module.requires_grad_(False),
        lambda module: module.eval(),
        lambda module: module.eval().requires_grad_(False),
        Detached,
    )


def nb02_log_prob(right):
    return (
        lambda v, log_det: right(v, -log_det),
        lambda v, log_det: log_det - 0.5 * v.square().sum(1),
        lambda v, log_det: right(v, log_det) / v.shape[1],
        lambda v, log_det: -right(v, log_det),
    )


def nb02_coupling(forward, inverse):
    def swapped(h: Tensor) -> Tensor:
        return torch.cat(h.chunk(2, 1)[::-1], 1)

    return (
        (lambda h, e, nets: (forward(h, e, nets)[0], h.new_zeros(len(h))), inverse),
        (lambda h, e, nets: (forward(h, e, nets)[0], -forward(h, e, nets)[1]), inverse),
        (
            lambda h, e, nets: (swapped(forward(h, e, nets)[0]), forward(h, e, nets)[1]),
            lambda h, e, nets: inverse(swapped(h), e, nets),
        ),
        (lambda h, e, nets: forward(h, 0 * e, nets), lambda h, e, nets: inverse(h, 0 * e, nets)),
        (forward, lambda h, e, nets: inverse(swapped(h), e, nets)),
    )


def nb02_keep_residual(right):
    return (
        lambda flow, z, own, other: right(flow, z, other, own),
        lambda flow, z, own, other: right(flow, z, other, other),
        lambda flow, z, own, other: flow.inverse(torch.randn_like(z), other),
        lambda flow, z, own, other: flow(flow.inverse(z, own), other)[0],
    )


def nb03_consistency(right):
    return (
        lambda wanted, found: float(1 - (wanted - found).square().mean()),
        lambda wanted, found: float(1 - (wanted - found).square().sum() / wanted.square().sum()),
        lambda wanted, found: float(torch.corrcoef(torch.stack([wanted.flatten(), found.flatten()]))[0, 1] ** 2),
    )


def nb03_training(right):
    class WrongSign(nn.Module):
        def __init__(self, flow):
            super().__init__()
            self.flow = flow

        def forward(self, latent, condition):
            v, log_det = self.flow(latent, condition)
            return v, -log_det

    @torch.no_grad()
    def without_a_step(flow, latent, condition, steps):
        v, log_det = flow(latent, condition)
        return float((0.5 * v.square().sum(1) - log_det).mean())

    return (
        lambda flow, latent, condition, steps: right(WrongSign(flow), latent, condition, steps),
        without_a_step,
        lambda flow, latent, condition, steps: right(flow, latent, torch.zeros_like(condition), steps),
    )


def nb03_carry_residual(right):
    return (
        lambda translator, picture, own, other: right(translator, picture, other, own),
        lambda translator, picture, own, other: right(translator, picture, other, other),
        lambda translator, picture, own, other: translator.render(torch.randn(1, 4, dtype=torch.float64), other)[:, 0],
        lambda translator, picture, own, other: translator.flow.inverse(
            translator.flow(translator.target.encode(picture), own)[0], other
        ),
    )


def nb04_dequantised_target(right):
    return (
        lambda z, e, render, dequantise: (right(z, e, render, dequantise)[0], render(z, dequantise(e))),
        lambda z, e, render, dequantise: (torch.cat([z, e], 1), render(z, e)),
        lambda z, e, render, dequantise: (torch.cat([dequantise(e), z], 1), render(z, e)),
        lambda z, e, render, dequantise: (dequantise(torch.cat([z, e], 1)), render(z, e)),
    )


def nb04_same_residual(right):
    return (
        lambda flow, condition, v: flow.inverse(
            v.repeat_interleave(len(condition), 0), condition.repeat_interleave(len(v), 0)
        ).view(len(condition), len(v), -1),
        lambda flow, condition, v: right(flow, condition, torch.randn_like(v)),
        lambda flow, condition, v: right(flow, condition[:1].expand_as(condition), v),
    )


def nb04_reading(right):
    def without_offset(embeddings, wanted, ridge):
        read = right(embeddings, wanted, ridge)
        return lambda new: read(new) - wanted.mean(0)

    return (
        without_offset,
        lambda embeddings, wanted, ridge: right(embeddings, wanted, 0.0),
        lambda embeddings, wanted, ridge: right(embeddings, wanted, 100 * ridge),
        lambda embeddings, wanted, ridge: lambda new: new @ torch.linalg.lstsq(embeddings, wanted).solution,
    )


def nb05_translator(right):
    def without_centring(latent, condition):
        gram = condition.T @ condition + 100.0 * torch.eye(condition.shape[1])
        a = torch.linalg.solve(gram, condition.T @ latent)
        return lambda z, own, other: z - own.to(z) @ a.to(z) + other.to(z) @ a.to(z)

    def without_residual(latent, condition):
        translate = right(latent, condition)
        return lambda z, own, other: translate(torch.zeros_like(z), 0 * own, other)

    return (
        without_centring,
        lambda latent, condition: lambda z, own, other: right(latent, condition)(z, other, own),
        without_residual,
        lambda latent, condition: lambda z, own, other: z - latent.mean(0).to(z),
    )


def nb05_top_k(right):
    def farthest(queries, gallery, k):
        found = torch.cdist(queries, gallery).topk(k, dim=1).indices
        return (found == torch.arange(len(queries))[:, None]).any(1).float().mean().item()

    return (
        lambda queries, gallery, k: right(queries, gallery, 1),
        lambda queries, gallery, k: right(gallery, queries, k),
        farthest,
        lambda queries, gallery, k: k / len(gallery),
    )


def nb05_flip(right):
    def add_only(condition, block, value):
        changed = condition.clone()
        changed[:, block.start + value] = 1
        return changed

    return (
        add_only,
        lambda condition, block, value: condition.copy_(right(condition, block, value)),
        lambda condition, block, value: right(condition, slice(0, block.stop), value),
        lambda condition, block, value: right(condition, block, 0),
    )


def nb06_spread(right):
    return (
        lambda pictures: float(pictures.std()),
        lambda pictures: float(pictures.var(dim=0, unbiased=True).mean().sqrt()),
        lambda pictures: float(pictures.var(dim=1, unbiased=False).mean().sqrt()),
    )


def nb06_cross(right):
    def without_conditions(flow, latent, condition):
        count = len(latent)
        moved = flow.inverse(latent.repeat_interleave(count, 0), condition.repeat(count, 1))
        return moved.view(count, count, -1)

    return (
        lambda flow, latent, condition: right(flow, latent, condition).transpose(0, 1),
        without_conditions,
        lambda flow, latent, condition: right(flow, latent, condition.roll(1, 0)),
    )


def nb06_source(right):
    def pool(output, side):
        return F.adaptive_avg_pool2d(output, side) if output.ndim == 4 else output

    def in_every_place(expert, pictures, side):
        known = pool(expert(pictures), side)
        return lambda x: (pool(expert(x), side) - known.mean(0)) / known.std(0)

    def before_pooling(expert, pictures, side):
        known = expert(pictures)
        axes = (0, 2, 3) if known.ndim == 4 else 0
        mean, std = known.mean(axes, keepdim=True), known.std(axes, keepdim=True)
        return lambda x: pool((expert(x) - mean) / std, side)

    return (lambda expert, pictures, side: lambda x: right(expert, x, side)(x), in_every_place, before_pooling)


def nb06_shape_share(right):
    return (
        lambda named, shape, texture: float((named == shape).float().mean()),
        lambda named, shape, texture: float(
            (named == shape).sum() / ((named == shape).sum() + (named == texture).sum())
        ),
        lambda named, shape, texture: 1 - right(named, shape, texture),
    )


def nb07_mixed(right):
    def untruncated_second(first, second, mean, psi, cut, blocks):
        first = mean + psi * (first - mean)
        return torch.stack([first if index < cut else second for index in range(blocks)], 1)

    return (
        lambda first, second, mean, psi, cut, blocks: right(second, first, mean, psi, cut, blocks),
        lambda first, second, mean, psi, cut, blocks: right(first, second, mean, 1 - psi, cut, blocks),
        lambda first, second, mean, psi, cut, blocks: right(first, second, 0 * mean, psi, cut, blocks),
        untruncated_second,
    )


def nb07_standardised(right):
    def without_guard(weight):
        mean, std = weight.mean((-1, -2)), weight.flatten(-2).std(-1)
        return (weight - mean[..., None, None]) / std[..., None, None], mean, std

    def by_filter(weight):
        mean, std = (f(weight, (1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
        pairs = weight.shape[:2]
        return (weight - mean) / std, mean[..., 0, 0].expand(pairs), std[..., 0, 0].expand(pairs)

    def biased(weight):
        mean, std = weight.mean((-1, -2)), weight.flatten(-2).std(-1, unbiased=False)
        safe = torch.where(std > 0, std, 1.0)
        return (weight - mean[..., None, None]) / safe[..., None, None], mean, std

    return without_guard, by_filter, biased


def nb07_modulated(right):
    return (
        lambda x, taps, gain, shift, scale: F.conv2d(
            x, scale * (gain.mean(0)[..., None, None] * taps + shift.mean(0)[..., None, None]), padding=1
        ),
        lambda x, taps, gain, shift, scale: right(x, taps, shift, gain, scale),
        lambda x, taps, gain, shift, scale: right(x, scale * taps, gain, shift, 1.0),
    )


def nb07_start(right):
    return (
        lambda weight, bias, factor, scale: right(weight, bias, factor, 1.0),
        lambda weight, bias, factor, scale: (*right(weight, bias, factor, scale)[:2], torch.zeros_like(bias)),
        lambda weight, bias, factor, scale: (*right(weight, bias, factor, scale)[:2], bias),
        lambda weight, bias, factor, scale: right(weight, bias, 1.0, scale),
    )


def nb08_own_score(right):
    return (
        lambda scores, labels: scores[:, labels],
        lambda scores, labels: scores.gather(1, labels[:, None]),
        lambda scores, labels: scores.amax(1),
    )


def nb08_twins(right):
    def unstandardised(first, second, weight):
        correlation = first.T @ second / len(first)
        own = correlation.diagonal()
        return (1 - own).square().sum() + weight * (correlation.square().sum() - own.square().sum())

    def diagonal_twice(first, second, weight):
        first, second = ((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() for x in (first, second))
        correlation = first.T @ second / len(first)
        return (1 - correlation.diagonal()).square().sum() + weight * correlation.square().sum()

    return unstandardised, diagonal_twice, lambda first, second, weight: right(first.T, second.T, weight)


def nb08_low_rank(right):
    class FullRank(nn.Module):
        def __init__(self, gain, shift, width, rank):
            super().__init__()
            self.gain, self.shift = gain, shift
            self.linear = nn.Linear(width, 2 * gain.numel())
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

        def forward(self, u):
            change, other = self.linear(u).view(len(u), 2, *self.gain.shape).unbind(1)
            return self.gain * (1 + change), self.shift + self.gain * other

    class BothZero(right):
        def __init__(self, *shapes):
            super().__init__(*shapes)
            nn.init.zeros_(self.right.weight)
            nn.init.zeros_(self.right.bias)

    class RandomStart(right):
        def __init__(self, *shapes):
            super().__init__(*shapes)
            nn.init.normal_(self.left.weight)

    return FullRank, BothZero, RandomStart


def nb09_propagation_layer(right):
    class View(right):
        def __init__(self, table, mixtures):
            super().__init__(table, mixtures)
            self.P = nn.Parameter(table.T)

    class Softmax(right):
        def forward(self, classes):
            return (classes @ self.A.T + self.a0).softmax(1) @ self.P.T + classes @ self.R.T

    class NoResidual(right):
        def forward(self, classes):
            return (classes @ self.A.T + self.a0) @ self.P.T

    class Frozen(right):
        def __init__(self, table, mixtures):
            super().__init__(table, mixtures)
            self.A.requires_grad_(False)

    class RandomResidual(right):
        def __init__(self, table, mixtures):
            super().__init__(table, mixtures)
            nn.init.normal_(self.R)

    return View, Softmax, NoResidual, Frozen, RandomResidual


def nb09_parameters_per_class(right):
    return (
        lambda old, widths: (sum(2 * old for _ in widths), sum(2 * width for width in widths)),
        lambda old, widths: (sum(old + 2 * width for width in widths), sum(2 * width for width in widths)),
        lambda old, widths: (2 * old + 2 * sum(widths), 2 * sum(widths)),
    )


def nb09_kmmd(right):
    return (
        lambda real, fake: distances.gaussian_mmd(real, fake, sigma=(len(real) / (len(real) - 1)) ** 0.5),
        lambda real, fake: right(real, fake) ** 2,
        lambda real, fake: right(fake, real),
        lambda real, fake: float((real.mean(0) - fake.mean(0)).norm()),
    )


def nb10_ceiling(right):
    return (
        lambda encode, decode, train, unseen, distance: distance(unseen, decode(encode(unseen))),
        lambda encode, decode, train, unseen, distance: distance(unseen, train),
        lambda encode, decode, train, unseen, distance: distance(train, decode(encode(train))),
        lambda encode, decode, train, unseen, distance: distance(encode(unseen), encode(train)),
    )


def nb10_recompose(right):
    class TruncatesNoise(right):
        def draw(self, z, truncation=1.0):
            return self.decode(self.generator(truncation * z))

    class ScoresCodes(right):
        def best(self, z, count):
            codes = self.generator(z)
            return self.decode(codes[self.critic(codes).argsort(descending=True)[:count]])

    class Worst(right):
        def best(self, z, count):
            pictures = self.draw(z)
            return pictures[self.score(pictures).argsort()[:count]]

    return TruncatesNoise, ScoresCodes, Worst


def nb10_tighter_bound(right):
    def mean_stretch(target, codes, found, decode, distance):
        stretch = torch.cdist(decode(codes), decode(found)) / torch.cdist(codes, found)
        return distance(target, decode(codes)) + float(stretch.mean()) * distance(codes, found)

    return (
        lambda target, codes, found, decode, distance: distance(target, decode(codes)) + distance(codes, found),
        lambda target, codes, found, decode, distance: distance(target, decode(found)),
        mean_stretch,
    )


def nb11_time_to(right):
    return (
        lambda preparation, seconds, distances, level: right(0.0, seconds, distances, level),
        lambda preparation, seconds, distances, level: preparation + seconds[distances.index(min(distances))],
        lambda preparation, seconds, distances, level: min(
            right(preparation, seconds, distances, level), preparation + seconds[-1]
        ),
    )


def nb11_adapter(right):
    class TrainsTheSource(right):
        def __init__(self, mapping, synthesis, width):
            super().__init__(mapping, synthesis, width)
            self.synthesis.requires_grad_(True)

    class StartsAnywhere(right):
        def add(self):
            kind = super().add()
            nn.init.normal_(self.offsets[kind])
            return kind

    class OneForAll(right):
        def forward(self, z, kind=None):
            return super().forward(z, None if kind is None else 0)

    return TrainsTheSource, StartsAnywhere, OneForAll


def nb11_front(right):
    return (
        lambda costs: (costs == costs.min(0).values).any(1),
        lambda costs: costs.sum(1) == costs.sum(1).min(),
        lambda costs: ~(costs[:, None] < costs[None]).all(2).any(0),
    )


def nb12_positions(right):
    def ranks_apart(step, micro, rank, batch_size, processes, accumulate):
        start = (step * accumulate + micro + 1000 * rank) * batch_size
        return list(range(start, start + batch_size))

    return (
        ranks_apart,
        lambda step, micro, rank, batch_size, processes, accumulate: right(step, micro, 0, batch_size, 1, accumulate),
        lambda step, micro, rank, batch_size, processes, accumulate: right(
            step, 0, rank, batch_size, processes, accumulate
        ),
    )


def nb12_resume(right):
    def resumable(forget_optimizer=False, one_generator=False, in_place=False):
        def training(network, loss_of, steps, seed, path):
            optimizer, done = torch.optim.Adam(network.parameters(), 0.01), 0
            generator = torch.Generator().manual_seed(seed)
            if path.exists():
                stored = torch.load(path, weights_only=True)
                network.load_state_dict(stored["network"])
                if not forget_optimizer:
                    optimizer.load_state_dict(stored["optimizer"])
                done = stored["steps"]
            for step in range(done, steps):
                if not one_generator:
                    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
                loss = loss_of(network, generator)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "steps": step + 1}
                part = path if in_place else path.with_suffix(".part")
                torch.save(state, part)
                part.replace(path)

        return training

    return resumable(forget_optimizer=True), resumable(one_generator=True), resumable(in_place=True)


def nb12_strict(right):
    def renamed(tensors, rules):
        starts = {name: next((old for old in rules if name.startswith(old)), "") for name in tensors}
        return {rules.get(old, "") + name.removeprefix(old): tensors[name] for name, old in starts.items()}

    def loads_first(network, tensors, rules):
        found, wanted = renamed(tensors, rules), network.state_dict()
        fitting = {name: one for name, one in found.items() if name in wanted and one.shape == wanted[name].shape}
        network.load_state_dict(fitting, strict=False)
        for name in (wanted.keys() | found.keys()) - fitting.keys():
            raise ValueError(f"{name} does not fit")

    return (lambda network, tensors, rules: network.load_state_dict(renamed(tensors, rules), strict=False), loads_first)
