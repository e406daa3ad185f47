"""Taking a source apart: its modulation, changed modulations, the fused form, and published parameter counts."""

from dataclasses import replace

import pytest
import torch

from course_lib.errors import CourseError
from course_lib.gans.equalized import FusedUpsample
from course_lib.gans.stylegan import FFHQ1024, StyleGAN, StyleGANConfig
from course_lib.hypermod.dissect import as_fused, count_parameters, source_modulation, with_modulation

SMALL = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2)
LABELS = torch.zeros(3, dtype=torch.int64)


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


def test_the_source_modulation_draws_the_source_and_names_the_layers(source, given):
    layers = source_modulation(source)
    assert [layer.name for layer in layers] == ["4 px", "8 px up", "8 px", "16 px up", "16 px"]
    z, noise = given
    assert torch.allclose(with_modulation(source, layers)(z, LABELS, noise), source(z, noise), atol=1e-5)


def test_a_changed_modulation_changes_the_picture_alike_for_every_label(source, given):
    z, noise = given
    layers = source_modulation(source)
    layers[2] = replace(layers[2], gain=0 * layers[2].gain)
    changed = with_modulation(source, layers)
    pictures = changed(z, LABELS, noise)
    assert (pictures - source(z, noise)).abs().mean() > 0.05
    vectors = torch.randn(1, 1)
    assert torch.allclose(changed(z, vectors, noise), pictures, atol=1e-6)
    kernel = changed.convs[2].kernels(*changed.heads[2](vectors)[:2])[0]
    assert kernel.flatten(-2).std(-1).max() < 1e-6, "without γ all taps of a kernel are equal"


def test_modulations_that_do_not_fit_are_refused(source):
    layers = source_modulation(source)
    with pytest.raises(CourseError, match="every modulated convolution"):
        with_modulation(source, layers[1:])
    with pytest.raises(CourseError, match="every modulated convolution"):
        with_modulation(source, [*layers[:-1], replace(layers[-1], bias=torch.zeros(1))])


@pytest.mark.parametrize("fused_from", [8, 16])
def test_the_fused_form_is_the_same_function(source, given, fused_from):
    fused = as_fused(source, fused_from)
    kinds = [isinstance(block.conv1, FusedUpsample) for block in fused.synthesis.blocks[1:]]
    assert kinds == [block.size >= fused_from for block in fused.synthesis.blocks[1:]]
    z, noise = given
    assert torch.allclose(fused(z, noise), source(z, noise), atol=1e-5)


def test_only_ours_is_exact_where_layers_are_fused(source, given):
    fused, (z, noise) = as_fused(source), given
    ours = with_modulation(fused, source_modulation(fused))(z, LABELS, noise)
    published = with_modulation(fused, source_modulation(fused, published=True), published=True)(z, LABELS, noise)
    before = source(z, noise)
    assert (ours - before).abs().max() < 1e-4 < 0.01 < (published - before).abs().mean()


def test_published_parameter_counts():
    parts = count_parameters(FFHQ1024)
    assert parts["source"] == 26_219_115
    assert parts["kept"] + parts["heads"] == 280_236_395
    assert parts["classes"] == 16_640 + 64
    at_256 = count_parameters(replace(FFHQ1024, channels=FFHQ1024.channels[:7], critic=FFHQ1024.critic[:7]))
    assert at_256["heads"] == 272_388_480 and at_256["per class"] == 4_190_592
    low = count_parameters(FFHQ1024, rank=4)
    assert low["heads"] < parts["heads"] / 20 and low["per class"] == parts["per class"]
