"""Hyper-modulation: formulas, the exact start, and what stays frozen."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.gan_training import mix_styles
from course_lib.gans.stylegan import FFHQ1024, EqualConv2d, StyleGAN, StyleGANConfig, four_shifts
from course_lib.hypermod import FullHead, HyperGenerator, ModulatedConv, standardise_kernels

SMALL = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2, fused_from=16)


def trained(layer):
    """Biases of a fresh layer are zero; those of a trained one are not."""
    torch.nn.init.normal_(layer.bias)
    return layer


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = StyleGAN(SMALL).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias") and "style" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


def test_standardised_taps_have_mean_zero_and_unbiased_standard_deviation_one():
    taps, mean, std = standardise_kernels(torch.randn(5, 4, 3, 3) * 3 + 1)
    assert taps.mean((-1, -2)).abs().max() < 1e-6
    assert torch.allclose(taps.flatten(-2).std(-1), torch.ones(5, 4), atol=1e-5)
    flat, mean, std = standardise_kernels(torch.full((1, 1, 3, 3), 2.0))
    assert not flat.any() and mean.item() == 2.0 and std.item() == 0.0


@pytest.mark.parametrize("layer", [EqualConv2d(6, 4, 3), EqualConv2d(6, 4, resample="averaged")])
def test_source_modulation_is_the_source_layer(layer):
    conv, x = ModulatedConv(trained(layer)), torch.randn(3, 6, 8, 8)
    assert torch.allclose(conv(x, *conv.source()), layer(x), atol=1e-5)


def test_the_published_fused_layer_cannot_reproduce_its_source():
    layer, x = trained(EqualConv2d(6, 4, resample="averaged")), torch.randn(3, 6, 8, 8)
    conv = ModulatedConv(layer, published=True)
    assert (conv(x, *conv.source()) - layer(x)).abs().mean() > 0.01


def test_published_formulas_of_both_kinds_of_layer():
    gain, shift, bias = torch.randn(2, 4, 6), torch.randn(2, 4, 6), torch.randn(2, 4)
    layer, x = trained(EqualConv2d(6, 4, 3)), torch.randn(2, 6, 8, 8)
    conv = ModulatedConv(layer, published=True)
    found = conv(x, gain, shift, bias)
    w = layer.weight.detach()
    w = (w - w.mean((2, 3), keepdim=True)) / w.flatten(2).std(2)[..., None, None]
    b = (layer.bias - layer.bias.mean()) / layer.bias.std()
    for n in range(2):
        kernel = (2 / (6 * 9)) ** 0.5 * (gain[n][..., None, None] * w + shift[n][..., None, None])
        assert torch.allclose(found[n], F.conv2d(x[n : n + 1], kernel, b + bias[n], padding=1)[0], atol=1e-5)

    layer = trained(EqualConv2d(6, 4, resample="averaged"))
    conv, gain, shift = ModulatedConv(layer, published=True), gain.transpose(1, 2), shift.transpose(1, 2)
    found = conv(x, gain, shift, bias)
    w = layer.weight.detach()
    w = four_shifts((w - w.mean((2, 3), keepdim=True)) / w.flatten(2).std(2)[..., None, None])
    b = (layer.bias - layer.bias.mean()) / layer.bias.std()
    for n in range(2):
        kernel = (2 / (16 * 4)) ** 0.5 * (gain[n][..., None, None] * w + shift[n][..., None, None])
        expected = F.conv_transpose2d(x[n : n + 1], kernel, b + bias[n], stride=2, padding=1)
        assert torch.allclose(found[n], expected[0], atol=1e-5)


@pytest.mark.parametrize("layer", [EqualConv2d(6, 4, 3), EqualConv2d(6, 4, resample="averaged")])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_group_a_picture_and_one_convolution_a_class_agree(layer, count):
    conv, x = ModulatedConv(trained(layer)), torch.randn(8, 6, 8, 8)
    sizes = torch.arange(8).mul(count).div(8, rounding_mode="floor").bincount().tolist()
    owner = torch.arange(count).repeat_interleave(torch.tensor(sizes))
    parts = torch.randn(count, *conv.pairs), torch.randn(count, *conv.pairs), torch.randn(count, 4)
    expected = conv(x, *[part[owner] for part in parts])
    gain, shift, bias = parts
    assert torch.allclose(conv.convolve(x, conv.kernels(gain, shift), conv.bias + bias, sizes), expected, atol=1e-5)


def test_heads_interleave_gain_and_shift():
    conv = ModulatedConv(EqualConv2d(3, 2, 3))
    head = FullHead(conv, 5)
    with torch.no_grad():
        head.kernel.weight.zero_()
        head.kernel.bias.copy_(torch.arange(12.0))
    gain, shift, _ = head(torch.randn(1, 5))
    assert gain.flatten().tolist() == [0, 2, 4, 6, 8, 10] and shift.flatten().tolist() == [1, 3, 5, 7, 9, 11]


@pytest.mark.parametrize("rank", [None, 2])
def test_every_class_begins_as_the_source_generator_and_can_leave_it(source, rank):
    hyper = HyperGenerator(source, 3, width=5, rank=rank)
    z, labels = torch.randn(4, 6), torch.tensor([0, 1, 2, 1])
    noise = source.synthesis.noise(4)
    before = source(z, noise)
    assert torch.allclose(hyper(z, labels, noise), before, atol=1e-4)
    optimizer = torch.optim.Adam([p for p in hyper.parameters() if p.requires_grad], 0.05)
    for _ in range(3):
        optimizer.zero_grad()
        pictures = hyper(z, labels, noise)
        (pictures[1::2].mean() - pictures[::2].mean()).backward()
        optimizer.step()
    after = hyper(z, labels, noise)
    assert not torch.allclose(after, before, atol=1e-2)
    same_z = hyper(z[:1].expand(3, -1), torch.arange(3), [n[:1].expand(3, -1, -1, -1) for n in noise])
    assert not torch.allclose(same_z[0], same_z[1], atol=1e-4), "classes part"
    assert torch.equal(hyper(z, None, noise), before), "the source domain is kept to the bit"


def test_random_heads_do_not_draw_the_source(source):
    hyper = HyperGenerator(source, 3, width=5, start="random")
    z, noise = torch.randn(4, 6), source.synthesis.noise(4)
    assert (hyper(z, torch.zeros(4, dtype=torch.int64), noise) - source(z, noise)).abs().mean() > 0.1


def test_published_parameter_totals_and_what_trains():
    with torch.device("meta"):
        hyper = HyperGenerator(StyleGAN(FFHQ1024), 1)
    heads = sum(p.numel() for p in hyper.heads.parameters())
    assert heads == 272_893_920
    assert sum(p.numel() for p in hyper.classes.parameters()) == 16_640 + 64
    assert not any(p.requires_grad for p in hyper.source.parameters())
    assert (
        sum(c.weight.numel() + c.bias.numel() for c in hyper.convs) == 18_913_216 - 9 * sum(FFHQ1024.channels[1:]) * 2
    )


def test_mixed_styles_and_mixed_classes_reach_the_picture(source):
    hyper = HyperGenerator(source, 2, width=5, start="random")
    z, other = torch.randn(2, 6), torch.randn(2, 6)
    noise = source.synthesis.noise(2)
    vectors = hyper.classes(torch.tensor([0, 1]))
    plain = hyper(z, torch.tensor([0, 1]), noise)
    assert torch.allclose(hyper(z, vectors, noise), plain, atol=1e-5)
    between = hyper(z, vectors.mean(0, keepdim=True), noise)
    assert not torch.allclose(between, plain)
    mixed = hyper(mix_styles(z, other, 3, torch.Generator().manual_seed(0)), torch.tensor([0, 1]), noise)
    assert not torch.allclose(mixed, plain)
