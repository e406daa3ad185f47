"""Released experts: every name and shape of the real files, and what each network does, at small widths."""

from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
from released_tools import BASIC, BIG, CAPTIONS, GAN, NETWORKS, VAE, as_text, manifest, small
from torch import nn
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.experts import SourceExpert, TargetExpert, fingerprint
from course_lib.released import net2net_experts
from course_lib.released.net2net_experts import (
    RELEASED_EXPERTS,
    BasicAutoencoder,
    BasicAutoencoderConfig,
    BigAutoencoder,
    BigAutoencoderConfig,
    BigGan,
    Captioner,
    CaptionerConfig,
    Dequantiser,
    DequantiserConfig,
    FrozenActNorm,
    GeneratorConfig,
    PortedGenerator,
    SpectralNorm,
    normalise_twice,
    posterior_of,
)
from course_lib.released.reading import layout_of

FULL = {
    **{
        f"autoencoder_{name}": (BigAutoencoder, config)
        for name, config in RELEASED_EXPERTS.items()
        if isinstance(config, BigAutoencoderConfig)
    },
    "autoencoder_faces32": (BasicAutoencoder, BasicAutoencoderConfig()),
    "biggan_generator128": (PortedGenerator, GeneratorConfig(128)),
    "biggan_generator256": (PortedGenerator, GeneratorConfig(256)),
    "biggan_wrapper256": (BigGan, GeneratorConfig(256)),
    "dequant_vae": (Dequantiser, DequantiserConfig()),
    "captioner_img2text": (Captioner, CaptionerConfig()),
}
PARAMETERS = {
    "autoencoder_faces256": 135_198_402,
    "autoencoder_coco256": 139_124_674,
    "autoencoder_faces32": 6_301_184,
    "dequant_vae": 155_243_008,
}


def on_meta(network_class, config):
    with torch.device("meta"):
        return network_class(config)


# --- names and shapes ----------------------------------------


@pytest.mark.parametrize("name", FULL)
def test_names_shapes_dtypes_and_order_equal_the_manifest(name):
    expected = {key: entry for key, entry in manifest(name).items() if not key.startswith("loss.")}
    network = on_meta(*FULL[name])
    assert as_text(layout_of(network)) == expected
    assert list(network.state_dict()) == list(expected)
    if name in PARAMETERS:
        assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


def test_every_norm_of_the_encoder_is_an_actnorm():
    encoder = on_meta(BigAutoencoder, BigAutoencoderConfig()).encoder
    assert sum(isinstance(module, FrozenActNorm) for module in encoder.modules()) == 104
    assert not any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


def test_only_the_last_norm_of_the_decoder_is_an_actnorm():
    generator = on_meta(BigAutoencoder, BigAutoencoderConfig()).decoder.decoder
    assert [name for name, module in generator.named_modules() if isinstance(module, FrozenActNorm)] == [
        "ScaledCrossReplicaBN"
    ]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in generator.modules()) == 12


# --- frozen experts ----------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_a_parent_in_training_mode_changes_nothing(name):
    network = small(*NETWORKS[name])
    before = fingerprint(network)
    parent = nn.ModuleList([network]).train()
    assert parent.training and not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        if name == "captioner":
            network.encoder.resnet(torch.randn(2, 3, 32, 32))
        elif name == "dequantiser":
            network(torch.randn(2, 5))
        else:
            network.decode(torch.randn(2, network.latent_dim))
            if name != "biggan":
                network.encode(torch.randn(2, 3, 32 * (1 + (name == "big_ae")), 32 * (1 + (name == "big_ae"))))
    assert fingerprint(network) == before


@pytest.mark.parametrize("name", ["big_ae", "basic_ae", "biggan"])
def test_experts_fill_the_protocol(name):
    network = small(*NETWORKS[name])
    assert isinstance(network, TargetExpert)
    pictures = network.decode(torch.randn(2, network.latent_dim, generator=torch.Generator().manual_seed(0)))
    size = network.config.size
    assert pictures.shape == (2, 3, size, size) and not pictures.requires_grad
    assert -1 <= pictures.min() < pictures.max() <= 1 and not torch.equal(pictures[0], pictures[1])
    if name != "biggan":
        assert isinstance(network, SourceExpert)
        assert network.encode(pictures).shape == (2, *network.condition_shape) == (2, network.latent_dim)


# --- spectral norm ----------------------------------------


@pytest.mark.parametrize("layer", [nn.Linear(5, 4), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1, bias=False)])
def test_spectral_norm_is_one_step_from_a_vector_that_stays(layer):
    weight = layer.weight.detach().clone()
    normed = SpectralNorm(layer)
    assert torch.equal(layer.weight_bar, weight) and not hasattr(layer, "weight")
    before = fingerprint(normed)
    x = torch.randn(2, 5) if isinstance(layer, nn.Linear) else torch.randn(2, 3, 6, 6)
    first, second = normed.train()(x), normed(x)
    assert torch.equal(first, second) and fingerprint(normed) == before

    matrix = weight.double().flatten(1).numpy()
    v = matrix.T @ layer.weight_u.detach().double().numpy()
    v /= np.linalg.norm(v) + 1e-4
    u = matrix @ v
    u /= np.linalg.norm(u) + 1e-4
    sigma = u @ matrix @ v
    effective = weight / sigma
    bias = layer.bias
    expected = (
        F.linear(x, effective, bias) if isinstance(layer, nn.Linear) else F.conv2d(x, effective, bias, 1, layer.padding)
    )
    torch.testing.assert_close(first, expected)
    # One step is not the largest singular value, which torch's own utility would find in the end.
    assert abs(sigma - np.linalg.svd(matrix, compute_uv=False)[0]) > 1e-3


@torch.no_grad()
def test_the_epsilon_is_added_to_the_length():
    layer = SpectralNorm(nn.Linear(1, 1, bias=False))
    layer.module.weight_bar.fill_(1e-3)
    layer.module.weight_u.fill_(1.0)
    v = 1e-3 / (1e-3 + 1e-4)
    expected = 1 / (v * (v * 1e-3) / (v * 1e-3 + 1e-4))
    torch.testing.assert_close(layer(torch.ones(1, 1)), torch.tensor([[expected]]))


# --- the generator ----------------------------------------


def normalised_weight(weight, u):
    """One power iteration from ``u``, with ε added to the lengths."""
    matrix = weight.flatten(1)
    v = matrix.T @ u
    v = v / (v.norm() + 1e-4)
    w = matrix @ v
    return weight / (w / (w.norm() + 1e-4) @ w)


def reference_picture(state, code, embedding, first, blocks):
    """The generator once more, from its tensors' names alone."""

    def spectral(name):
        return normalised_weight(state[f"{name}.module.weight_bar"], state[f"{name}.module.weight_u"])

    def conv(name, x, padding=0):
        return F.conv2d(x, spectral(name), state.get(f"{name}.module.bias"), padding=padding)

    def norm(name, x, condition):
        x = (x - state[f"{name}.bn.running_mean"][:, None, None]) / (
            state[f"{name}.bn.running_var"][:, None, None] + 1e-4
        ).sqrt()
        gain, bias = condition @ spectral(f"{name}.gamma_embed").T, condition @ spectral(f"{name}.beta_embed").T
        return (1 + gain)[..., None, None] * x + bias[..., None, None]

    def twice(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x = code[:, :first] @ spectral("G_linear").T + state["G_linear.module.bias"]
    x = x.view(len(code), 4, 4, -1).permute(0, 3, 1, 2)
    for i in range(blocks):
        if i == blocks - 1:
            b, c, h, w = x.shape
            query = conv("attention.theta", x).view(b, c // 8, h * w)
            key = F.max_pool2d(conv("attention.phi", x), 2).view(b, c // 8, -1)
            value = F.max_pool2d(conv("attention.g", x), 2).view(b, c // 2, -1)
            weights = torch.einsum("bcq,bck->bqk", query, key).softmax(2)
            mixed = torch.einsum("bck,bqk->bcq", value, weights).view(b, c // 2, h, w)
            x = x + state["attention.gamma"] * conv("attention.o_conv", mixed)
        name = f"GBlock.{i}"
        condition = torch.cat([code[:, first + 20 * i : first + 20 * (i + 1)], embedding], 1)
        inside = conv(f"{name}.conv0", twice(norm(f"{name}.HyperBN", x, condition).relu()), 1)
        inside = conv(f"{name}.conv1", norm(f"{name}.HyperBN_1", inside, condition).relu(), 1)
        x = inside + conv(f"{name}.conv_sc", twice(x))
    end = "ScaledCrossReplicaBN"
    if f"{end}.loc" in state:
        x = state[f"{end}.scale"] * (x + state[f"{end}.loc"])
    else:
        x = F.batch_norm(
            x, *(state[f"{end}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")), eps=1e-4
        )
    return conv("colorize", x.relu(), 1).tanh()


@pytest.mark.parametrize("config", [GAN, BIG.generator], ids=["generator", "decoder"])
def test_the_generator_is_what_its_tensors_say(config):
    generator = small(BigGan, config).decoder
    code, embedding = torch.randn(2, config.code_dim), torch.randn(2, config.class_dim)
    with torch.no_grad():
        expected = reference_picture(generator.state_dict(), code, embedding, config.split[0], len(config.split) - 1)
        torch.testing.assert_close(generator(code, embedding), expected, rtol=1e-3, atol=1e-4)


def test_the_split_of_codes():
    assert GeneratorConfig(256).split == [20] * 7 and GeneratorConfig(128).split == [20] * 6
    assert BigAutoencoderConfig().generator.split == [8] + [20] * 6
    assert BigAutoencoderConfig(latent_dim=256).generator.split == [136] + [20] * 6
    assert BIG.generator.split == [6] + [20] * 5
    with pytest.raises(CourseError, match="too short"):
        GeneratorConfig(256, code_dim=120)
    with pytest.raises(CourseError, match="128 or 256"):
        GeneratorConfig(64)


def test_a_latent_of_biggan_is_code_and_embedding():
    gan = small(BigGan, GAN)
    labels = torch.tensor([3, 0])
    embedding = gan.embed(labels)
    torch.testing.assert_close(embedding, gan.decoder.linear(F.one_hot(labels, 7).float()))
    code = torch.randn(2, 120)
    assert gan.latent_dim == 125
    decoded = gan.decode(torch.cat([code, embedding], 1)[..., None, None])
    torch.testing.assert_close(decoded, gan.decoder(code, embedding), atol=1e-3, rtol=0)
    for call in (lambda: gan.embed(torch.tensor([7])), lambda: gan.decode(code), lambda: gan.encode(torch.zeros(1))):
        with pytest.raises(CourseError):
            call()


# --- the autoencoders ----------------------------------------


def imagenet(x):
    """From [−1, 1] to the statistics of ImageNet."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((x + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]


def test_pictures_are_normalised_twice():
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(normalise_twice(images), imagenet(imagenet(images)))
    # A grey pixel, worked out by hand for the red channel.
    assert normalise_twice(torch.zeros(1, 3, 1, 1))[0, 0].item() == pytest.approx(0.20852, abs=1e-4)


def test_the_encoder_is_torchvisions_resnet_but_for_its_end():
    network = small(BigAutoencoder, BIG)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    resnet = deepcopy(network.encoder.model)
    with torch.no_grad():
        convolution, resnet.fc = resnet.fc, nn.Identity()
        features = resnet(imagenet(imagenet(images)))
        resnet.fc = convolution
        moments = features @ convolution.sub_layers[0].weight[:, :, 0, 0].T + convolution.sub_layers[0].bias
    posterior = network.posterior(images)
    torch.testing.assert_close(posterior.mean, moments[:, :106], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(posterior.log_variance, moments[:, 106:].clamp(-30, 10), rtol=1e-4, atol=1e-5)
    assert torch.equal(network.encode(images), posterior.mean)
    drawing = deepcopy(network)
    drawing.sample_codes = True
    draws = [drawing.encode(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_the_decoder_mixes_classes():
    network, latent = small(BigAutoencoder, BIG), torch.randn(2, 106)
    net = network.decoder.map_to_class_embedding.main
    assert [type(layer).__name__ for layer in net] == ["Linear", "LeakyReLU"] * 3 + ["Linear"]
    assert net[1].negative_slope == 0.01
    mixture = net(latent).softmax(1)
    generator = network.decoder.decoder
    embedding = mixture @ generator.linear.weight.T
    with torch.no_grad():
        expected = reference_picture(generator.state_dict(), latent, embedding, 6, 5)
    torch.testing.assert_close(network.decode(latent), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(network.decode(latent[..., None, None]), network.decode(latent))


def test_pictures_and_latents_of_other_shapes_are_refused():
    network, basic = small(BigAutoencoder, BIG), small(BasicAutoencoder, BASIC)
    for call in (
        lambda: network.decode(torch.zeros(1, 105)),
        lambda: network.encode(torch.zeros(1, 1, 64, 64)),
        lambda: basic.encode(torch.zeros(1, 3, 64, 64)),
    ):
        with pytest.raises(CourseError):
            call()


def test_the_basic_autoencoder_is_what_its_tensors_say():
    network = small(BasicAutoencoder, BASIC)
    state = {key.removeprefix("autoencoder."): tensor for key, tensor in network.state_dict().items()}
    images = torch.rand(2, 3, 32, 32) * 2 - 1

    def act(x, name):
        return F.leaky_relu(state[f"{name}.1.scale"] * (x + state[f"{name}.1.loc"]), 0.2)

    x = images
    for i in range(4):
        name = f"feature_layers.{i}.sub_layers"
        x = act(F.conv2d(x, state[f"{name}.0.weight"], stride=2, padding=1), name)
    name = "dense_encode.sub_layers.0"
    moments = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])
    torch.testing.assert_close(network.encode(images), moments[:, :6, 0, 0])
    name = "dense_decode.sub_layers.0"
    y = F.conv_transpose2d(moments[:, :6], state[f"{name}.weight"], state[f"{name}.bias"])
    for i in (2, 1, 0):
        name = f"decoder_layers.{i}.sub_layers"
        y = act(F.conv_transpose2d(y, state[f"{name}.0.weight"], stride=2, padding=1), name)
    y = F.conv_transpose2d(y, state["image_layer.sub_layers.0.weight"], stride=2, padding=1).tanh()
    torch.testing.assert_close(network.decode(network.encode(images)), y)
    assert BasicAutoencoderConfig().size == 32


def test_a_source_code_is_drawn_where_the_released_way_is_wanted():
    mean = small(BasicAutoencoder, BASIC)
    drawn = deepcopy(mean)
    drawn.sample_codes = True
    images, noise = torch.rand(2, 3, 32, 32), torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    posterior = mean.posterior(images)
    assert torch.equal(mean.encode(images), posterior.mean)
    expected = posterior.mean + noise * (posterior.log_variance / 2).exp()
    torch.testing.assert_close(drawn.encode(images, torch.Generator().manual_seed(3)), expected)


def test_variances_are_clamped():
    gaussian = posterior_of(torch.tensor([[1.0, 2.0, -99.0, 99.0]]))
    assert gaussian.mean.tolist() == [[1, 2]] and gaussian.log_variance.tolist() == [[-30, 10]]


# --- dequantiser and captioner ----------------------------------------


def test_the_dequantiser_draws_neighbours():
    vae, embedding = small(Dequantiser, VAE), torch.randn(4, 5)
    features = vae.encoder.main(embedding)
    posterior = vae.posterior(embedding)
    torch.testing.assert_close(posterior.mean, vae.mu_layer.main(features))
    torch.testing.assert_close(posterior.log_variance, vae.logvar_layer.main(features).clamp(-30, 10))
    draws = [vae(embedding, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert draws[0].shape == (4, 5) and not draws[0].requires_grad
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    code = posterior.sample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(draws[0], vae.decoder.main(code))


WORDS = ("<pad>", "red", "bird", "blue", "tree", "<start>", "<end>")


def talker(bias_of_end):
    captioner = deepcopy(small(Captioner, CAPTIONS, seed=5))
    captioner.words = WORDS
    captioner.decoder.fc.bias[-1] = bias_of_end
    return captioner


class Script:
    """Stands in for the decoder's step: scores depend on the whole history, which the state carries as a number."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, words, places, h, c):
        history = h[:, :1] * 7 + words[:, None] + 1
        seeds = [1000 * self.seed + int(number) for number in history]
        scores = [torch.randn(7, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(scores), history.expand(-1, 6), c

    def score(self, beam):
        """Sum of the scores of a sequence of words, one step after the other."""
        total, h = 0.0, torch.zeros(1, 6)
        for word, following in zip(beam[:-1], beam[1:], strict=True):
            scores, h, _ = self(torch.tensor([word]), None, h, None)
            total += scores[0, following].item()
        return total


@torch.no_grad()
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_search_keeps_states_and_beams_together(monkeypatch, seed):
    """With room for every beam the search is exhaustive, so it finds the best of all sentences up to three words."""
    captioner, script = talker(0.0), Script(seed)
    for parameter in captioner.decoder.init_h.parameters():
        parameter.zero_()
    captioner.decoder.step = script
    monkeypatch.setattr(net2net_experts, "_BEAMS", 2000)
    monkeypatch.setattr(net2net_experts, "_STEPS", 3)
    endings = [(5, *beam, 6) for length in range(4) for beam in product(range(6), repeat=length)]
    assert tuple(captioner._search(torch.zeros(9, 2048))) == max(endings, key=script.score)


@torch.no_grad()
def test_captions_keep_their_start_and_end_words():
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    captions = talker(4.0).caption(images)
    assert all(caption.startswith("<start> ") and caption.endswith("<end> ") for caption in captions)
    assert talker(-1e9).caption(images) == ["<pad> " * 9] * 2
    with pytest.raises(CourseError, match="word map"):
        small(Captioner, CAPTIONS).caption(images)


@torch.no_grad()
def test_one_step_of_the_captioner():
    decoder = small(Captioner, CAPTIONS).decoder
    places, h, c = torch.randn(1, 4, 2048), torch.randn(1, 6), torch.randn(1, 6)
    attention = decoder.attention
    scores = [attention.full_att((attention.encoder_att(p) + attention.decoder_att(h[0])).relu()) for p in places[0]]
    seen = (torch.stack(scores).softmax(0) * places[0]).sum(0)
    torch.testing.assert_close(attention(places, h)[0], seen)
    inputs = torch.cat([decoder.embedding.weight[2], decoder.f_beta(h[0]).sigmoid() * seen])
    expected = decoder.decode_step(inputs[None], (h, c))
    log_p, *state = decoder.step(torch.tensor([2]), places, h, c)
    torch.testing.assert_close(tuple(state), expected)
    torch.testing.assert_close(log_p, decoder.fc(expected[0]).log_softmax(1))
