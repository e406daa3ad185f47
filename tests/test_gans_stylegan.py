"""StyleGAN: published sizes, and what its parts are for."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.experts import load_expert
from course_lib.gan_training import mix_styles, r1_penalty
from course_lib.gans.stylegan import (
    FFHQ1024,
    Blur,
    EqualConv2d,
    EqualLinear,
    StyleGAN,
    StyleGANConfig,
    StyleGANCritic,
)
from course_lib.training import Card, save_weights

SMALL = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = StyleGAN(SMALL).eval()
    for block in network.synthesis.blocks:
        torch.nn.init.constant_(block.noise1.weight, 0.5)
    return network


def test_parameter_totals_are_the_published_ones():
    with torch.device("meta"):
        generator, critic = StyleGAN(FFHQ1024), StyleGANCritic(FFHQ1024, 3)
    assert sum(p.numel() for p in generator.parameters()) == 26_219_115
    assert sum(p.numel() for p in generator.mapping.parameters()) == 2_101_248
    assert sum(p.numel() for p in critic.parameters()) == 25_445_763


@pytest.mark.parametrize("layer", [EqualLinear(64, 64), EqualConv2d(16, 16, 3)])
def test_scaled_weights_keep_the_size_of_signals_through_a_rectifier(layer):
    x = torch.randn(64, 64) if isinstance(layer, EqualLinear) else torch.randn(8, 16, 16, 16)
    assert F.relu(layer(x)).square().mean().item() == pytest.approx(x.square().mean().item(), rel=0.35)
    assert layer.weight.std().item() == pytest.approx(1.0, rel=0.1)


def test_fused_resampling_doubles_and_halves_without_a_comb():
    torch.manual_seed(0)
    up, down = (EqualConv2d(2, 3, resample=kind) for kind in ("averaged", "down"))
    flat = torch.ones(1, 2, 8, 8)
    large = up(flat)
    assert large.shape == (1, 3, 16, 16) and down(flat).shape == (1, 3, 4, 4)
    inside = large[..., 4:-4, 4:-4]
    assert torch.allclose(inside, inside[..., :1, :1].expand_as(inside), atol=1e-5)


def test_blur_keeps_flat_areas_and_removes_the_finest_checkerboard():
    flat = torch.full((1, 2, 8, 8), 3.0)
    assert torch.allclose(Blur()(flat)[..., 1:-1, 1:-1], flat[..., 1:-1, 1:-1])
    board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1)[None, None]
    assert Blur()(board)[..., 1:-1, 1:-1].abs().max() < 1e-6


def test_noise_and_style_both_change_the_picture(network):
    z, noise = torch.randn(2, 6), network.synthesis.noise(2, torch.Generator().manual_seed(0))
    picture = network(z, noise)
    assert picture.shape == (2, 3, 16, 16) and torch.equal(picture, network(z, noise))
    assert not torch.allclose(picture, network(z, network.synthesis.noise(2)))
    assert not torch.allclose(picture[0], network(z[1:].expand(2, -1), noise)[0])


def test_full_truncation_gives_every_z_the_mean_style(network):
    noise = network.synthesis.noise(1, torch.Generator().manual_seed(0))
    one, other = (network(torch.randn(1, 6), noise, truncation=0.0) for _ in range(2))
    assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(one, network.synthesis(network.mean_style(), noise), atol=1e-6)


def test_mixed_styles_change_hands_at_one_block(network):
    z, other = torch.randn(2, 3, 6)
    mixed = mix_styles(z, other, 3, torch.Generator().manual_seed(0))
    owners = [torch.equal(mixed[:, k], z) for k in range(3)]
    assert owners[0] and not owners[-1] and owners == sorted(owners, reverse=True)
    noise = network.synthesis.noise(3)
    w = torch.stack([network.mapping(mixed[:, k]) for k in range(3)], 1)
    first, of_z = (next(iter(network.synthesis.features(part, noise))) for part in (w, network.mapping(z)))
    assert torch.equal(first, of_z)
    assert not torch.allclose(network(mixed, noise), network(z, noise))
    assert torch.allclose(network(z[:, None].expand(-1, 3, -1), noise), network(z, noise), atol=1e-4)


def test_critic_sees_how_much_a_batch_differs():
    torch.manual_seed(0)
    critic, image = StyleGANCritic(SMALL), torch.randn(1, 3, 16, 16)
    alone = critic(image.expand(4, -1, -1, -1))
    assert torch.allclose(alone, alone[:1].expand(4), atol=1e-5)
    assert not torch.allclose(critic(torch.cat([image, torch.randn(3, 3, 16, 16)]))[0], alone[0])


def test_growing_starts_from_the_enlarged_smaller_picture(network):
    z, noise = torch.randn(1, 6), network.synthesis.noise(1)
    small = network(z, noise, size=8)
    assert torch.allclose(network(z, noise, alpha=0.0), F.interpolate(small, scale_factor=2), atol=1e-6)
    assert torch.allclose(network(z, noise, alpha=1.0), network(z, noise))
    with pytest.raises(CourseError, match="4, 8, 16 pixels, not 64"):
        network(z, noise, size=64)


def test_critic_picks_the_score_of_the_label():
    torch.manual_seed(0)
    critic, images = StyleGANCritic(SMALL, classes=3), torch.randn(4, 3, 16, 16)
    labels = torch.tensor([2, 0, 1, 1])
    assert torch.equal(critic(images, labels), critic.head(critic.features(images))[torch.arange(4), labels])
    with pytest.raises(CourseError, match="takes 16 pixels"):
        critic(torch.randn(1, 3, 12, 12))


def test_r1_is_the_squared_gradient_of_the_score():
    a, images = torch.randn(3, 4, 4), torch.randn(5, 3, 4, 4, requires_grad=True)
    assert r1_penalty((images * a).sum((1, 2, 3)), images).item() == pytest.approx(a.square().sum().item(), rel=1e-5)


def test_sizes_must_match():
    with pytest.raises(CourseError, match="same sizes"):
        StyleGANConfig((8, 8), (8, 8, 8))


def test_blocks_after_the_last_doubling_keep_the_size():
    torch.manual_seed(0)
    config = StyleGANConfig((8, 8, 8, 8), (8, 8, 8, 8), 6, 2, colours=5, doublings=1)
    network, critic = StyleGAN(config).eval(), StyleGANCritic(config)
    assert config.size == 8 and [block.size for block in network.synthesis.blocks] == [4, 8, 8, 8]
    drawn = network(torch.randn(3, 6))
    assert drawn.shape == (3, 5, 8, 8) and critic(drawn).shape == (3,)
    noise, z = network.synthesis.noise(2), torch.randn(2, 6)
    whole = network(z, noise)
    with torch.no_grad():
        network.synthesis.blocks[3].conv2.weight.zero_()
    assert not torch.allclose(network(z, noise), whole), "the last block draws"


def test_a_trained_pair_opens_as_an_expert(tmp_path, network):
    critic = StyleGANCritic(SMALL)
    for name, kind, module in (("g", "stylegan", network), ("d", "stylegan critic", critic)):
        save_weights(module.state_dict(), Card(name, kind, vars(SMALL)), tmp_path, bits=32)
    z, noise = torch.randn(2, 6), network.synthesis.noise(2)
    pictures = network(z, noise)
    assert torch.allclose(load_expert("g", folder=tmp_path)(z, noise), pictures, atol=1e-5)
    assert torch.allclose(load_expert("d", folder=tmp_path)(pictures), critic(pictures), atol=1e-5)
