"""ALAE: both forms of the equalised learning rate, fused layers, read-outs, and which step moves what."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.data.published import load_digits
from course_lib.errors import CourseError
from course_lib.experts import TargetExpert, load_expert
from course_lib.gan_training import latent_reciprocity, logistic_critic, logistic_generator, mix_styles
from course_lib.gans.alae import ALAE, MLPALAE, PUBLISHED_ALAE, ALAEConfig, LatentScore, LayerNoise
from course_lib.gans.stylegan import EqualConv2d, EqualLinear, equalised_groups, instance_norm
from course_lib.training import Card, save_weights

SMALL = ALAEConfig((8, 6, 4), 5, 2)
PARAMETERS = {  # E, G, D, F, counted on the authors' code
    "ffhq": (26_974_352, 24_118_379, 1_050_624, 2_101_248),
    "celebahq256": (26_789_952, 23_984_981, 1_050_624, 2_101_248),
    "bedroom": (21_145_888, 18_305_717, 1_050_624, 2_101_248),
    "celeba": (6_625_600, 5_944_402, 263_168, 526_336),
    "mnist": (3_017_920, 2_422_980, 4_224, 4_224),
}


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def network():
    network = ALAE(SMALL)
    for module in network.modules():
        if isinstance(module, LayerNoise):
            torch.nn.init.constant_(module.strength, 0.3)
    return network


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_totals_are_the_published_ones(name):
    with torch.device("meta"):
        network = ALAE(PUBLISHED_ALAE[name])
    parts = (network.encoder, network.generator.decoder, network.score, network.generator.mapping)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == PARAMETERS[name]


# --- layers ----------------------------------------


def test_both_forms_of_the_equalised_rate_walk_the_same_path():
    layers = {True: EqualLinear(7, 3), False: EqualLinear(7, 3, rate=1.0)}
    with torch.no_grad():
        layers[True].weight.copy_(layers[False].weight / layers[False].scale)
    x, y = torch.randn(20, 7), torch.randn(20, 3)
    optimizers = {
        e: torch.optim.Adam(equalised_groups(layer, 0.1), betas=(0.0, 0.99), eps=1e-30) for e, layer in layers.items()
    }
    start = layers[False].scaled().clone()
    for _ in range(5):
        for explicit, layer in layers.items():
            optimizers[explicit].zero_grad()
            F.mse_loss(layer(x), y).backward()
            optimizers[explicit].step()
    implicit = layers[False].scaled()
    torch.testing.assert_close(implicit, layers[True].scaled(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layers[False].bias, layers[True].bias, rtol=1e-4, atol=1e-5)
    assert (implicit - start).abs().min() > 1e-3
    assert len({group["lr"] for group in optimizers[False].param_groups}) == 2


def test_published_coefficients():
    assert EqualLinear(512, 512, rate=0.1).scale == pytest.approx(0.00625)
    assert EqualLinear(512, 512, rate=0.1).weight.std().item() == pytest.approx(0.0625, rel=0.05)
    assert EqualConv2d(16, 3, 1, gain=0.03, rate=1.0).scale == pytest.approx(0.0075)


def test_every_parameter_is_in_one_group(network):
    groups = equalised_groups(network, 1.0)
    found = [id(p) for group in groups for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in network.parameters())
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert rate[id(network.generator.decoder.constant)] == 1.0
    assert rate[id(network.generator.mapping.layers[0].bias)] == pytest.approx(0.1)


def test_up_is_repetition_then_convolution_and_transposed_has_the_mirrored_kernel():
    x = torch.randn(2, 3, 8, 8)
    large = F.interpolate(x, scale_factor=2)
    plain, transposed = (EqualConv2d(3, 2, resample=kind, rate=1.0) for kind in ("up", "transposed"))
    torch.testing.assert_close(plain(x), F.conv2d(large, plain.weight, padding=1))
    kernel = transposed.weight.transpose(0, 1).flip(-1, -2)
    torch.testing.assert_close(transposed(x), F.conv2d(large, kernel, padding=1))


def test_down_is_convolution_then_the_mean_of_four():
    layer, x = EqualConv2d(3, 2, resample="down", rate=1.0), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(layer(x), F.avg_pool2d(F.conv2d(x, layer.weight, padding=1), 2))


def test_styles_are_mean_and_deviation_and_a_dead_channel_has_a_gradient():
    x = torch.randn(2, 3, 8, 8)
    x[:, 1] = 0.5
    x.requires_grad_()
    normed, read = instance_norm(x)
    torch.testing.assert_close(normed, F.instance_norm(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(read[:, :3], x.mean((2, 3)))
    torch.testing.assert_close(read[:, 3:], x.std((2, 3), unbiased=False), atol=1.1e-4, rtol=1e-4)
    (gradient,) = torch.autograd.grad(read.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert gradient.isfinite().all() and second.isfinite().all()
    plain = torch.cat([x.mean((2, 3)), x.var((2, 3), unbiased=False).sqrt()], 1)
    assert torch.autograd.grad(plain.sum(), x)[0].isnan().any(), "without the guard it is 0 / 0"


def test_the_score_is_one_affine_function():
    score = LatentScore(5, 10, 5)
    a, b = torch.randn(3, 5), torch.randn(3, 5)
    torch.testing.assert_close(score(0.3 * a + 0.7 * b), 0.3 * score(a) + 0.7 * score(b))


# --- networks ----------------------------------------


def test_the_first_rectifier_of_the_encoder_acts_twice(network):
    images, seen = torch.randn(2, 3, 16, 16), []
    network.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.encoder(images)
    twice = F.leaky_relu(F.leaky_relu(network.encoder.from_rgb[0](images), 0.2), 0.2)
    torch.testing.assert_close(seen[0], twice)


def test_the_style_is_the_sum_of_what_all_blocks_read(network):
    images, read = torch.randn(2, 3, 16, 16), []
    for block in network.encoder.blocks:
        for layer in (block.style1, block.style2):
            layer.register_forward_hook(lambda _, __, out: read.append(out))
    total = network.encoder(images)
    assert len(read) == 6
    torch.testing.assert_close(total, torch.stack(read).sum(0))


def test_truncation_and_mixing_act_on_slots(network):
    generator, z = network.generator, torch.randn(3, 5)
    generator.set_mean(64)
    full, cut = generator.styles(z), generator.styles(z, 0.0)
    torch.testing.assert_close(cut, generator.mean.expand(3, -1, -1))
    mixed = generator.styles(mix_styles(z, torch.randn(3, 5), SMALL.slots, noise()))
    torch.testing.assert_close(mixed[:, 0], full)
    assert not torch.allclose(mixed[:, -1], full)


def test_it_is_a_target_expert_whose_decoder_is_a_function(network, tmp_path):
    assert isinstance(network, TargetExpert)
    w = torch.randn(3, 5)
    pictures = network.decode(w)
    assert pictures.shape == (3, 3, 16, 16) and pictures.abs().max() <= 1 and not pictures.requires_grad
    assert torch.equal(pictures, network.decode(w)) and torch.allclose(pictures[:1], network.decode(w[:1]), atol=1e-5)
    assert not torch.allclose(pictures, network.decode(w, network.generator.decoder.noise(3)))
    assert network.encode(pictures).shape == (3, 5)
    with pytest.raises(CourseError, match="resize"):
        network.encode(torch.zeros(1, 3, 8, 8))
    save_weights(network.state_dict(), Card("a", "alae", vars(SMALL)), tmp_path, bits=32)
    loaded = load_expert("a", folder=tmp_path)
    torch.testing.assert_close(loaded.decode(w), pictures)


def test_the_version_for_digits():
    network = MLPALAE()
    assert isinstance(network, TargetExpert)
    images = load_digits().batch(torch.arange(3))
    w = network.encode(images)
    assert w.shape == (3, 50) and network.decode(w).shape == (3, 3, 28, 28)
    torch.testing.assert_close(network.encode(images[:, :1]), w)
    torch.testing.assert_close(
        network.score(w), network.score.layers[2](network.score.layers[1](network.score.layers[0](w)))[:, 0]
    )
    order = torch.randperm(784)
    permuted = MLPALAE()
    permuted.load_state_dict(network.state_dict())
    permuted.encoder.layers[0].weight.data = network.encoder.layers[0].weight.data[:, order]
    shuffled = images[:, :1].flatten(2)[:, :, order].view(3, 1, 28, 28)
    torch.testing.assert_close(permuted.encode(shuffled), w)
    with pytest.raises(CourseError, match="28 pixels"):
        network.encode(torch.zeros(1, 1, 32, 32))


# --- training ----------------------------------------


def test_losses():
    real, fake = torch.tensor([3.0, -1.0]), torch.tensor([0.5])
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(logistic_critic(real, fake), expected)
    torch.testing.assert_close(logistic_generator(fake), -fake.sigmoid().log().mean())
    w = torch.randn(4, 5, requires_grad=True)
    value = latent_reciprocity(w + 0.5, w)
    value.backward()
    assert value.item() == pytest.approx(0.25) and w.grad.abs().max() > 0, "only the target is cut off"
