"""BigGAN: names and shapes of the published weights, and the layers' formulas."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.gans.biggan import (
    CIFAR32,
    IMAGENET128,
    Attention,
    BigGANConfig,
    ClassNorm,
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    SNConv2d,
    SNEmbedding,
    SNLinear,
    standing_statistics,
    start_weights,
)

MANIFESTS = Path(__file__).parent / "manifests"
SMALL = BigGANConfig(5, (16, 16, 8, 8), (8, 8, 16, 16), 3, 16, 6, (16,))


@pytest.mark.parametrize(
    ("network", "config", "manifest", "parameters"),
    [
        (Generator, IMAGENET128, "cgan_base_I128_G", 70_433_988),
        (Discriminator, IMAGENET128, "cgan_base_I128_D", 87_982_370),
        (Generator, replace(CIFAR32, classes=80), "cgan_base_cifar80_G", 4_519_427),
        (Discriminator, replace(CIFAR32, classes=80), "cgan_base_cifar80_D", 4_225_281),
    ],
)
def test_names_and_shapes_are_the_published_ones(network, config, manifest, parameters):
    expected = json.loads(gzip.decompress((MANIFESTS / f"{manifest}.json.gz").read_bytes()))
    with torch.device("meta"):
        module = network(config)
    found = {name: [list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in module.state_dict().items()}
    assert found == expected
    assert sum(p.numel() for p in module.parameters()) == parameters


@pytest.mark.parametrize("layer", [SNLinear(12, 7), SNConv2d(4, 7, 3), SNEmbedding(7, 9)])
def test_spectral_norm_finds_the_largest_singular_value(layer):
    layer.train()
    for _ in range(200):
        weight = layer.normalised()
    assert torch.linalg.matrix_norm(weight.detach().flatten(1), 2).item() == pytest.approx(1.0, abs=1e-3)
    assert layer.sv0.item() == pytest.approx(
        torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item(), rel=1e-3
    )


def test_spectral_norm_makes_one_step_and_keeps_it_only_in_training():
    layer = SNLinear(6, 4).double()
    w, u = layer.weight.detach(), layer.u0.clone()
    v = F.normalize(u @ w)
    expected = w / (v @ w.T).norm()
    layer.eval()
    assert torch.allclose(layer.normalised(), expected) and torch.equal(layer.u0, u)
    layer.train()
    assert torch.allclose(layer.normalised(), expected)
    assert torch.allclose(layer.u0, F.normalize(v @ w.T))


@pytest.mark.parametrize("table", [False, True])
def test_class_norm_scales_by_one_plus_gain(table):
    norm = ClassNorm(4, None if table else 3, 5).double().train()
    x, y = torch.randn(6, 4, 5, 5).double() * 3 + 1, torch.randint(0, 5, (6,)) if table else torch.randn(6, 3).double()
    gain, bias = norm.gain(y), norm.bias(y)
    if not table:
        norm.eval()  # each call moves the spectral vectors; only the batch statistics are of interest below
        gain, bias = norm.gain(y), norm.bias(y)
        norm.training = True
        norm.gain.training = norm.bias.training = False
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = plain * (1 + gain)[:, :, None, None] + bias[:, :, None, None]
    assert torch.allclose(norm(x, y), expected)
    assert torch.allclose(norm.stored_mean, 0.1 * x.mean((0, 2, 3)))


def test_attention_starts_as_the_identity_and_then_mixes_places():
    layer = Attention(16, 1e-6).eval()
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(1.0)
    moved = x.clone()
    moved[:, :, 0, 0] += 5.0
    assert not torch.allclose(layer(moved)[:, :, -1, -1], layer(x)[:, :, -1, -1])


def test_cheap_shortcuts_equal_the_published_order():
    block = GeneratorBlock(8, 6, SMALL).eval()
    x, y = torch.randn(2, 8, 4, 4), torch.randn(2, SMALL.embedding + SMALL.chunk)
    h = F.interpolate(F.relu(block.bn1(x, y)), scale_factor=2)
    h = block.conv2(F.relu(block.bn2(block.conv1(h), y)))
    assert torch.allclose(block(x, y), h + block.conv_sc(F.interpolate(x, scale_factor=2)), atol=1e-5)
    block = DiscriminatorBlock(8, 6, halve=True, first=False, eps=1e-6).eval()
    h = F.avg_pool2d(block.conv2(F.relu(block.conv1(F.relu(x)))), 2)
    assert torch.allclose(block(x), h + F.avg_pool2d(block.conv_sc(x), 2), atol=1e-5)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, embedding=None)])
def test_generator_and_discriminator_depend_on_the_class(config):
    torch.manual_seed(0)
    generator, critic = Generator(config).eval(), Discriminator(config).eval()
    assert config.size == 32
    z = torch.randn(1, config.noise).expand(2, -1)
    pictures = generator(z, generator.embed(torch.tensor([0, 3])))
    assert pictures.shape == (2, 3, 32, 32) and pictures.abs().max() <= 1
    assert not torch.allclose(pictures[0], pictures[1])
    scores = critic(pictures[:1].expand(2, -1, -1, -1), torch.tensor([0, 3]))
    assert scores.shape == (2,) and scores[0] != scores[1]


def test_every_part_of_z_reaches_the_picture():
    generator, z = Generator(SMALL).eval(), torch.randn(1, 16)
    before = generator(z, generator.embed(torch.tensor([1])))
    for part in range(4):
        other = z.clone()
        other[:, 4 * part : 4 * part + 4] += 1.0
        assert not torch.allclose(generator(other, generator.embed(torch.tensor([1]))), before)


def test_noise_that_cannot_be_split_is_refused():
    with pytest.raises(CourseError, match="multiple of 4"):
        replace(SMALL, noise=18)


def test_standing_statistics_are_the_mean_over_batches_and_move_nothing_else():
    generator = Generator(SMALL).eval()
    start_weights(generator)
    batches = [(torch.randn(8, 16), torch.randint(0, 5, (8,))) for _ in range(3)]
    seen: list[torch.Tensor] = []
    first = generator.blocks[0][0].bn1
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    parts = iter(batches)

    def forward():
        z, labels = next(parts)
        generator(z, generator.embed(labels))

    standing_statistics(generator, forward, passes=3)
    handle.remove()
    assert torch.allclose(first.stored_mean, torch.stack(seen).mean(0), atol=1e-6)
    changed = {k for k, v in generator.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.endswith(("stored_mean", "stored_var")) for k in changed)
    assert not any(m.training for m in generator.modules()) and first.momentum == 0.1


def test_weights_start_orthogonal():
    generator = Generator(SMALL)
    start_weights(generator)
    rows = generator.blocks[0][0].conv1.weight.detach().flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(16), atol=1e-4)


def test_blocks_after_the_last_doubling_keep_the_size_and_latents_have_no_bounds():
    torch.manual_seed(0)
    config = BigGANConfig(3, (8, 8, 8), (8, 8, 8), 1, 6, 4, (), colours=5, doublings=1, bounded=False)
    generator, labels = Generator(config), torch.tensor([0, 2])
    drawn = generator(torch.randn(2, 6), generator.embed(labels))
    assert config.size == 8 and drawn.shape == (2, 5, 8, 8) and Discriminator(config)(drawn, labels).shape == (2,)
    last = generator.output_layer[-1]
    with torch.no_grad():
        last.bias.fill_(7.0)
    assert generator(torch.randn(2, 6), generator.embed(labels)).max() > 5
