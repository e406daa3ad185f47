"""Generators of other methods open by their cards: those of the two class transfers, and an autoencoder's."""

import pytest
import torch

from course_lib.bn_transfer import BN_KIND, TransferGenerator, bn_transfer_tensors, transfer_config
from course_lib.errors import CourseError
from course_lib.experts import LatentSpace, freeze, load_expert
from course_lib.gans.alae import ALAE, ALAEConfig
from course_lib.gans.biggan import BigGANConfig, Generator, start_weights
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.generation import Walk, open_generator
from course_lib.generation import generator as grids
from course_lib.hypermod import HYPER_KIND, HyperGenerator, hyper_config, hyper_tensors
from course_lib.training import Card, save_weights

NAMES = ["cat", "dog", "owl"]


def test_a_hyper_modulated_generator_opens(tmp_path):
    config = StyleGANConfig((16, 16, 8), (16, 16, 8), latent=12, mapping=2)
    source = StyleGAN(config)
    save_weights(source.state_dict(), Card("faces", "stylegan", vars(config)), tmp_path, bits=32)
    network = HyperGenerator(freeze(source), 3, width=8)
    for head in network.heads:
        torch.nn.init.normal_(head.kernel.weight, std=0.2)
    card = Card("hyper", HYPER_KIND, hyper_config("faces", NAMES, 8, None))
    save_weights(hyper_tensors(network), card, tmp_path, bits=32)
    generator = open_generator(tmp_path / "hyper")
    z, noise = torch.randn(3, 12), generator.noise(3, 1)
    expected = network(z, torch.arange(3), noise).detach().clamp(-1, 1)
    torch.testing.assert_close(generator.draw(z, generator.vectors_of(NAMES), noise), expected, atol=1e-4, rtol=0)
    plain = open_generator(tmp_path / "faces")
    torch.testing.assert_close(generator.draw(z, None, noise), plain.draw(z, None, noise))


def test_the_source_may_be_a_shipped_one_that_draws_latents(tmp_path):
    """A run of your own writes its own part into its own folder; the card says what decodes."""
    shipped, space = load_expert("avatar-stylegan"), LatentSpace(load_expert("avatar-autoencoder"))
    network = HyperGenerator(shipped, 2, width=8, rank=1)
    card = Card(
        "mine", HYPER_KIND, hyper_config("avatar-stylegan", ["cat", "dog"], 8, 1), {"space": "avatar-autoencoder"}
    )
    save_weights(hyper_tensors(network), card, tmp_path, bits=32)
    generator = open_generator(tmp_path / "mine")
    assert generator.size == 64 and generator.blocks == 3
    z, noise = torch.randn(2, generator.latent), generator.noise(2, 0)
    expected = space.decode(shipped(z, noise)).clamp(-1, 1)
    torch.testing.assert_close(generator.draw(z, None, noise), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(generator.draw(z, generator.vectors_of(["dog"] * 2), noise), expected, atol=1e-3, rtol=0)
    made = TransferGenerator(load_expert("avatar-biggan"), 2).eval()
    config = transfer_config(made, "avatar-biggan", ["cat", "dog"])
    save_weights(
        bn_transfer_tensors(made),
        Card("new", BN_KIND, config, {"space": "avatar-autoencoder"}),
        tmp_path,
        bits=32,
    )
    opened = open_generator(tmp_path / "new")
    assert opened.draw(opened.latents(1, 0), torch.eye(2)[:1]).shape == (1, 3, 64, 64)


def test_an_alae_opens_and_mixes_styles(tmp_path):
    config = ALAEConfig((16, 16, 8), latent=12, mapping=2)
    network = ALAE(config)
    network.generator.set_mean()
    save_weights(network.state_dict(), Card("faces", "alae", vars(config)), tmp_path, bits=32)
    generator = open_generator(tmp_path / "faces")
    assert (generator.size, generator.blocks, generator.classes) == (16, 6, [])
    z, noise = torch.randn(2, 12), generator.noise(2, 1)
    expected = network.generator(z, noise, 0.7)[0].detach().clamp(-1, 1)
    torch.testing.assert_close(generator.draw(z, None, noise, 0.7), expected, atol=1e-4, rtol=0)
    assert grids.style_mixing(generator, grids.Walk(cut=3, rows=2, steps=2)).pictures.shape == (3, 3, 3, 16, 16)
    with pytest.raises(CourseError, match="faces has no classes"):
        generator.draw(z, torch.zeros(2, 3))


def test_new_classes_of_a_biggan_open_and_mix(tmp_path):
    config = BigGANConfig(4, (16, 16, 8), (8, 8), 2, 12, 6, ())
    source = Generator(config)
    start_weights(source)
    card = Card("old", "biggan generator", vars(config), {"classes": ["a", "b", "c", "d"]})
    save_weights(source.state_dict(), card, tmp_path, bits=32)
    made = TransferGenerator(freeze(source), 3).eval()
    made.init_at(torch.eye(4)[[2, 0, 1]])
    config = transfer_config(made, "old", NAMES)
    save_weights(bn_transfer_tensors(made), Card("new", BN_KIND, config), tmp_path, bits=32)
    new, old = open_generator(tmp_path / "new"), open_generator(tmp_path / "old")
    assert new.classes == NAMES and new.blocks == 3
    z = torch.randn(3, 12)
    expected = old.draw(z, old.vectors_of(["c", "a", "b"]))
    torch.testing.assert_close(new.draw(z, new.vectors_of(NAMES)), expected, atol=1e-4, rtol=0)
    grid = grids.draw_kind(new, "class", Walk(("cat", "owl"), steps=3, rows=1))
    half = old.draw(old.latents(1, 0), (old.vectors_of(["c"]) + old.vectors_of(["b"])) / 2)
    torch.testing.assert_close(grid.pictures[0, 1][None], half, atol=1e-4, rtol=0)
