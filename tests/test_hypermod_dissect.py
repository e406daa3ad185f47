"""Taking a source apart: its modulation, changed modulations, the fused form, and published parameter counts."""

from dataclasses import replace

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.gans.equalized import FusedUpsample
from course_lib.gans.stylegan import FFHQ1024, StyleGAN, StyleGANConfig
from course_lib.hypermod import HyperGenerator
from course_lib.hypermod.dissect import as_fused, count_parameters, modulate, source_modulation

SMALL = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2)


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = StyleGAN(SMALL).eval()
    for name, parameter in network.named_parameters():
        # As after training: fresh biases and noise strengths are all zero and would hide mistakes.
        if "style" not in name and (name.endswith("bias") or "noise" in name):
            torch.nn.init.normal_(parameter, std=0.3)
    return network.requires_grad_(False)


@pytest.fixture
def given(source):
    return torch.randn(3, 6), source.synthesis.noise(3)


@pytest.fixture
def hyper(source):
    return HyperGenerator(source, 1, width=1, rank=1)


def test_the_source_modulation_draws_the_source_and_names_the_layers(hyper, given):
    layers = source_modulation(hyper)
    assert [layer.name for layer in layers] == ["block 1", "block 2 in", "block 2", "block 3 in", "block 3"]
    z, noise = given
    assert torch.allclose(hyper(z, modulate(hyper, layers), noise), hyper.source(z, noise), atol=1e-5)


def test_a_changed_modulation_changes_the_picture(hyper, given):
    z, noise = given
    layers = source_modulation(hyper)
    layers[2] = replace(layers[2], gain=0 * layers[2].gain)
    changed = modulate(hyper, layers)
    assert (hyper(z, changed, noise) - hyper.source(z, noise)).abs().mean() > 0.05
    assert changed.kernels[2].flatten(-2).std(-1).max() < 1e-6, "without γ all taps of a kernel are equal"


def test_modulations_that_do_not_fit_are_refused(hyper):
    layers = source_modulation(hyper)
    with pytest.raises(CourseError, match="every modulated convolution"):
        modulate(hyper, layers[1:])
    with pytest.raises(CourseError, match="every modulated convolution"):
        modulate(hyper, [*layers[:-1], replace(layers[-1], bias=torch.zeros(1))])


@pytest.mark.parametrize("fused_from", [8, 16])
def test_the_fused_form_is_the_same_function(source, given, fused_from):
    fused = as_fused(source, fused_from)
    kinds = [isinstance(block.conv1, FusedUpsample) for block in fused.synthesis.blocks[1:]]
    assert kinds == [block.size >= fused_from for block in fused.synthesis.blocks[1:]]
    z, noise = given
    assert torch.allclose(fused(z, noise), source(z, noise), atol=1e-5)


def test_only_ours_is_exact_where_layers_are_fused(source, given):
    fused, (z, noise) = as_fused(source), given
    ours, published = (HyperGenerator(fused, 1, width=1, rank=1, published=kind) for kind in (False, True))
    drawn = [hyper(z, modulate(hyper, source_modulation(hyper)), noise) for hyper in (ours, published)]
    off = [(pictures - source(z, noise)).abs() for pictures in drawn]
    assert off[0].max() < 1e-4 < 0.01 < off[1].mean()


def test_published_parameter_counts():
    parts = count_parameters(FFHQ1024)
    assert parts["source"] == 26_219_115
    assert parts["kept"] + parts["heads"] == 280_236_395
    assert parts["classes"] == 16_640 + 64
    at_256 = count_parameters(replace(FFHQ1024, channels=FFHQ1024.channels[:7], critic=FFHQ1024.critic[:7]))
    assert at_256["heads"] == 272_388_480 and at_256["per class"] == 4_190_592
    low = count_parameters(FFHQ1024, rank=4)
    assert low["heads"] < parts["heads"] / 20 and low["per class"] == parts["per class"]
