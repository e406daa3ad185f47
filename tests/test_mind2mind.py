"""Mind2Mind: published sizes, the bypass, the game in latent space, recomposition, and what is kept on disk."""

import pytest
import torch
from released_tools import manifest
from torch import nn

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation.distances import frechet_distance
from course_lib.evaluation.features import FeatureNetwork
from course_lib.experts import Autoencoder, AutoencoderConfig, fingerprint, freeze
from course_lib.gans.alae import ALAE
from course_lib.gans.alae_config import ALAEConfig
from course_lib.mind2mind import (
    DIGITS,
    MindConfig,
    MindCritic,
    MindGenerator,
    MindMethod,
    TransferredGAN,
    auto_encoding_ceiling,
    encode_set,
    gaussian_baseline,
    gradient_penalty,
    load_released,
    score_transfer,
    uniform_noise,
)
from course_lib.training import Budget, train

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}
SMALL = MindConfig(5, 4, (16, 16), (16, 16))


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def alae():
    return freeze(ALAE(ALAEConfig((8, 6, 4), 5, 2)))


@pytest.fixture
def data():
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=noise())
    return ImageSet("tiny", images)


FEATURES = FeatureNetwork("pixels", "pixels", lambda x: x.mean((2, 3)), lambda x: x.mean((2, 3)))


# --- networks ----------------------------------------


@pytest.mark.parametrize(("kind", "network"), [("generator", MindGenerator), ("critic", MindCritic)])
def test_names_and_shapes_equal_the_manifest(kind, network):
    expected = {key: shape for key, (shape, _) in manifest(f"mindgan_{kind}", "m2m").items()}
    found = {key: tuple(tensor.shape) for key, tensor in network(MindConfig()).state_dict().items()}
    assert found == expected and list(found) == list(expected)
    count = {"generator": 443_776, "critic": 427_009}[kind]
    assert sum(p.numel() for p in network(MindConfig()).parameters()) == count


def test_the_small_published_pair():
    generator, critic = MindGenerator(DIGITS), MindCritic(DIGITS)
    assert sum(p.numel() for p in generator.parameters()) == 462_080
    assert sum(p.numel() for p in critic.parameters()) == 131_841
    codes = generator(uniform_noise(8, DIGITS, noise()))
    assert codes.shape == (8, 256) and codes.abs().max() < 1 and critic(codes).shape == (8,)
    assert [type(layer).__name__ for layer in generator.model[:4]] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def test_noise_is_uniform_between_minus_one_and_one():
    z = uniform_noise(4000, MindConfig(), noise())
    assert z.shape == (4000, 128) and -1 <= z.min() < -0.999 and 0.999 < z.max() <= 1
    assert z.var().item() == pytest.approx(1 / 3, rel=0.01)


def test_a_released_file_opens(tmp_path):
    networks = {"Generator": MindGenerator(SMALL).state_dict(), "Critic": MindCritic(SMALL).state_dict()}
    torch.save({**networks, "Critic loss": [0.5], "optims": [{"state": {}}]}, tmp_path / "model299.pth")
    generator, critic = load_released(tmp_path / "model299.pth")
    assert generator.config == SMALL
    for found, name in ((generator, "Generator"), (critic, "Critic")):
        assert all(torch.equal(found.state_dict()[key], tensor) for key, tensor in networks[name].items())


# --- the game ----------------------------------------


def test_the_penalty_of_a_linear_critic_is_known():
    v = torch.tensor([3.0, 4.0])
    real, fake, share = torch.randn(6, 2), torch.randn(6, 2), torch.rand(6, 1)
    assert gradient_penalty(lambda h: h @ v + 7, real, fake, share).item() == pytest.approx(16.0)
    # Of c(h) = ‖h‖²/2 the gradient is h itself: the point between, with one share a pair.
    expected = ((share * real + (1 - share) * fake).norm(dim=1) - 1).square().mean()
    found = gradient_penalty(lambda h: h.square().sum(1) / 2, real, fake, share)
    torch.testing.assert_close(found, expected)


def test_with_an_exact_autoencoder_the_bypass_is_exact():
    basis = torch.linalg.qr(torch.randn(12, 5))[0]
    generator, critic, z = MindGenerator(SMALL), MindCritic(SMALL), torch.rand(7, 4)
    gradients = []
    for bypass in (True, False):
        codes = generator(z)
        codes = codes if bypass else (codes @ basis.T) @ basis
        gradients.append(torch.autograd.grad(-critic(codes).mean(), list(generator.parameters())))
    for latent, composite in zip(*gradients, strict=True):
        torch.testing.assert_close(latent, composite, rtol=1e-4, atol=1e-7)


def test_five_critic_steps_on_one_batch_then_one_of_the_generator():
    method = MindMethod(torch.randn(30, 5), SMALL)
    seen = []
    method.modules["critic"].register_forward_hook(lambda _, args, __: seen.append(args[0].detach().clone()))
    batch, order = method.batch(torch.arange(6), noise()), []
    for loss in method.losses(batch, noise(1), 0):
        before = {name: fingerprint(module) for name, module in method.modules.items()}
        optimizer = method.optimizers[loss.optimizer]
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        order.append(loss.optimizer)
        moved = {name for name, module in method.modules.items() if fingerprint(module) != before[name]}
        assert moved == {loss.optimizer}
    assert order == ["critic"] * 5 + ["generator"]
    pairs = seen[:10:2]
    assert all(torch.equal(pair[:6], batch) for pair in pairs), "the same real codes"
    assert not torch.equal(pairs[0][6:], pairs[1][6:]), "other noise"


def test_the_critic_loss_is_the_published_one():
    method = MindMethod(torch.randn(30, 5), SMALL)
    batch, critic = method.batch(torch.arange(30), noise()), method.modules["critic"]
    loss = next(method.losses(batch, noise(1), 0))
    draws = noise(1)
    fake = method.modules["generator"](uniform_noise(30, SMALL, draws)).detach()
    penalty = gradient_penalty(critic, batch, fake, torch.rand(30, 1, generator=draws))
    score = critic(batch)
    expected = -score.mean() + critic(fake).mean() + 10 * penalty + 0.01 * score.square().mean()
    torch.testing.assert_close(loss.value, expected)
    assert loss.scalars["wasserstein"].item() == pytest.approx((score.mean() - critic(fake).mean()).item(), abs=1e-5)


def test_codes_of_another_length_are_refused():
    with pytest.raises(CourseError, match=r"MindConfig\.latent"):
        MindMethod(torch.randn(30, 6), SMALL)


def test_training_brings_the_law_of_codes_closer():
    mixing = torch.randn(3, 16, generator=noise(5))
    codes = (torch.randn(1200, 3, generator=noise(6)) @ mixing).tanh() * 2
    config = MindConfig(16, 8, (64, 64), (64, 64))
    method = MindMethod(codes[:1000], config, held=codes[1000:], held_every=50)
    history = train(method, Budget(300), 128, log_every=50, **QUIET)
    curve = history.curve["Fréchet distance of codes"]
    start = frechet_distance(codes[1000:], MindGenerator(config)(uniform_noise(200, config, noise())).detach())
    assert curve[-1] < start / 5


def test_a_run_resumes_to_the_same_bits(tmp_path):
    codes, results = torch.randn(60, 5, generator=noise()), []
    for parts in ((6,), (3, 6)):
        torch.manual_seed(0)
        method = MindMethod(codes, SMALL, average=0.9)
        for steps in parts:
            folder = tmp_path / str(len(parts))
            train(method, Budget(steps), 16, folder=folder, resume=True, **QUIET)
        results.append([fingerprint(module) for module in method.modules.values()])
    assert results[0] == results[1]


# --- experts ----------------------------------------


def test_a_set_is_encoded_once(alae, data, tmp_path):
    codes = encode_set(alae, data, tmp_path, progress=False)
    assert torch.allclose(codes, alae.encode(data.batch(torch.arange(20))), atol=1e-5)

    class Broken(ALAE):
        def encode(self, images):
            raise AssertionError("encoded twice")

    alae.__class__ = Broken
    assert torch.equal(encode_set(alae, data, tmp_path, progress=False), codes)
    alae.encoder.blocks[0].bias1.data += 0.1
    with pytest.raises(AssertionError, match="encoded twice"):
        encode_set(alae, data, tmp_path, progress=False)


def experts():
    config = AutoencoderConfig(16, 5, (4, 4), (4, 4))
    return {"alae": ALAE(ALAEConfig((8, 6, 4), 5, 2)), "autoencoder": Autoencoder(config)}


@pytest.mark.parametrize("name", ["alae", "autoencoder"])
def test_any_expert_that_encodes_and_decodes_will_do(name, data, tmp_path):
    expert = freeze(experts()[name])
    before = fingerprint(expert)
    codes = encode_set(expert, data, tmp_path, progress=False)
    method = MindMethod(codes, SMALL)
    train(method, Budget(2), 10, **QUIET)
    gan = TransferredGAN(method.modules["generator"], expert, method.modules["critic"], codes)
    pictures = gan.sample(6, seed=3)
    assert pictures.shape == (6, 3, 16, 16) and torch.equal(pictures, gan.sample(6, seed=3))
    torch.testing.assert_close(pictures, expert.decode(gan.codes(gan.noise(6, 3))))
    torch.testing.assert_close(gan.score(pictures), gan.critic(expert.encode(pictures)))
    torch.testing.assert_close(gan.codes(gan.noise(2), 0.0), codes.mean(0).expand(2, -1), rtol=1e-4, atol=1e-5)
    scores = score_transfer(gan, data, FEATURES, folder=tmp_path)
    assert scores.features == "pixels" and scores.ceiling == auto_encoding_ceiling(expert, data, FEATURES, tmp_path)
    assert fingerprint(expert) == before


def test_only_a_style_based_decoder_mixes(alae):
    generator = MindGenerator(SMALL)
    gan = TransferredGAN(generator, alae)
    z, other = gan.noise(2), gan.noise(2, 1)
    mixed = gan.mix(z, other)
    assert not torch.equal(mixed, gan.draw(z)) and not torch.equal(mixed, gan.draw(other))
    torch.testing.assert_close(gan.mix(z, z), gan.draw(z))
    for call in (
        lambda: gan.codes(z, 0.5),
        lambda: gan.score(torch.zeros(1, 3, 16, 16)),
        lambda: TransferredGAN(generator, freeze(experts()["autoencoder"])).mix(z, other),
        lambda: TransferredGAN(MindGenerator(MindConfig(6, 4)), alae),
    ):
        with pytest.raises(CourseError):
            call()


def test_a_perfect_mindgan_reaches_the_ceiling(alae, data, tmp_path):
    """With the real codes in place of generated ones nothing is left but the autoencoder's error."""

    class Oracle(nn.Module):
        config = MindConfig(5, 4)

        def forward(self, z):
            return encode_set(alae, data, tmp_path, progress=False)

    scores = score_transfer(TransferredGAN(Oracle(), alae), data, FEATURES, folder=tmp_path)
    assert scores.real == pytest.approx(scores.ceiling) and scores.codes == pytest.approx(0, abs=1e-9)
    assert scores.to_ceiling == pytest.approx(0, abs=1e-9) and scores.ceiling > 0


def test_a_gaussian_of_the_codes_has_their_moments(alae, data, tmp_path):
    class Shown:
        """Keeps what it is asked to decode."""

        config, parameters = alae.config, alae.parameters

        def decode(self, codes):
            self.seen = codes
            return alae.decode(codes)

    many = ImageSet("many", data.images.repeat(200, 1, 1, 1))
    codes = torch.randn(500, 5) @ torch.randn(5, 5) + 3
    shown, seen = Shown(), []
    decode = shown.decode
    shown.decode = lambda part: seen.append(part) or decode(part)
    assert gaussian_baseline(shown, codes, many, FEATURES, folder=tmp_path) > 0
    drawn = torch.cat(seen)
    assert drawn.shape == (4000, 5)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.3, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), atol=0.15 * codes.var(0).max().item(), rtol=0)
    few = gaussian_baseline(alae, codes[:3], data, FEATURES, folder=tmp_path)
    assert few > 0, "fewer codes than numbers in one"
