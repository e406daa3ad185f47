"""Mind2Mind: published sizes, the bypass, the game in latent space, recomposition, transfers, and what is on disk."""

import io

import pytest
import torch
from PIL import Image
from released_tools import manifest
from torch.nn import functional as F

from course_lib.data import ImageSet
from course_lib.data.published import load_digits
from course_lib.errors import CourseError
from course_lib.evaluation.scores import FeatureNetwork, frechet_distance
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, LatentSpace, TargetExpert, fingerprint, freeze
from course_lib.experts.networks import DigitAutoencoder
from course_lib.gans.alae import ALAE, ALAEConfig
from course_lib.mind2mind import (
    DIGITS,
    MIND_KIND,
    MainDirections,
    MindConfig,
    MindCritic,
    MindGenerator,
    MindMethod,
    StyleExpert,
    TransferredGAN,
    decoded_distance,
    draw_gaussian,
    encode_set,
    gradient_penalty,
    load_halves,
    mindgan_tensors,
    open_transferred,
    score_transfer,
    transfer_gan,
    uniform_noise,
)
from course_lib.released.alae import load_released_mindgan
from course_lib.training import Budget, Card, save_weights, train
from course_lib.widgets.walks import CodeWalk

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
    generator, critic = load_released_mindgan(tmp_path / "model299.pth")
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


def style_expert():
    grid = GridAutoencoderConfig(16, 3, (4,), (4,), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    return StyleExpert(ALAE(ALAEConfig((8, 6), 5, 2, colours=3, bounded=False)), GridAutoencoder(grid))


def experts():
    config = GridAutoencoderConfig(16, 5, (4,) * 4, (4,) * 4)
    plain = {"alae": ALAE(ALAEConfig((8, 6, 4), 5, 2)), "autoencoder": GridAutoencoder(config)}
    return plain | {"alae of latents": style_expert()}


@pytest.mark.parametrize("name", ["alae", "autoencoder", "alae of latents"])
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


def test_a_style_expert_is_the_alae_on_the_latents_of_its_autoencoder():
    expert, x = freeze(style_expert()), torch.rand(3, 3, 16, 16) * 2 - 1
    space = LatentSpace(expert.autoencoder)
    styles = expert.encode(x)
    torch.testing.assert_close(styles, expert.alae.encode(space.encode(x)))
    torch.testing.assert_close(expert.decode(styles), space.decode(expert.alae.decode(styles)))
    expert.alae.generator.decoder.blocks[0].noise1.strength.data.fill_(1.0)
    assert not torch.equal(expert.render(styles, fresh=True), expert.render(styles, fresh=True))
    assert torch.equal(expert.render(styles), expert.render(styles))
    assert "centre" not in expert.state_dict(), "the file of the autoencoder has it"


def test_main_directions_lose_what_they_leave_out(data, tmp_path):
    grid = GridAutoencoderConfig(16, 3, (4,), (4,), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    autoencoder = freeze(GridAutoencoder(grid))
    x = data.batch(torch.arange(20))
    full, few = (MainDirections.fit(autoencoder, data, count) for count in (19, 4))
    torch.testing.assert_close(
        full.decode(full.encode(x)), autoencoder.decode(autoencoder.encode(x)), atol=0.02, rtol=0
    )
    codes = few.encode(x)
    assert codes.shape == (20, 4) and codes.var(0).mean().item() == pytest.approx(1, rel=0.02)
    errors = [(one.decode(one.encode(x)) - full.decode(full.encode(x))).square().mean() for one in (few, full)]
    assert errors[0] > errors[1] and isinstance(few, TargetExpert)
    assert encode_set(few, data, tmp_path, progress=False).shape == (20, 4)


def test_shipped_halves_read_and_draw_pictures():
    expert = load_halves("avatar-alae")
    assert isinstance(expert, StyleExpert) and expert.latent_dim == 64 and expert.config.size == 64
    assert load_halves("avatar-autoencoder").latent_dim == 1024
    with pytest.raises(CourseError, match="does not decode"):
        load_halves("avatar-classifier")


def test_the_ceiling_is_what_a_perfect_generator_scores(alae, data, tmp_path, monkeypatch):
    codes = encode_set(alae, data, tmp_path, progress=False)
    assert decoded_distance(alae, codes, data, FEATURES, tmp_path) > 0
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))

    class Oracle(MindGenerator):
        def forward(self, z):
            return codes

    scores = score_transfer(TransferredGAN(Oracle(SMALL), alae), codes, data, FEATURES)
    assert scores["Mind2Mind"] == pytest.approx(scores["ceiling"]) and scores["codes"] == pytest.approx(0, abs=1e-9)
    assert scores["Gaussian"] > 0


def test_a_gaussian_of_the_codes_has_their_moments():
    codes = torch.randn(500, 5) @ torch.randn(5, 5) + 3
    drawn = draw_gaussian(codes, 4000)
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.3, rtol=0)
    torch.testing.assert_close(torch.cov(drawn.T), torch.cov(codes.T), atol=0.15 * codes.var(0).max().item(), rtol=0)
    assert draw_gaussian(codes[:3], 7).isfinite().all(), "fewer codes than numbers in one"


# --- transfers ----------------------------------------


def test_a_transfer_trains_the_small_pair_only_and_repeats(alae, data, tmp_path):
    before, state = fingerprint(alae), torch.get_rng_state()
    sizes = MindConfig(9, 4, (16, 16), (16, 16))
    found, again = (transfer_gan(alae, data, 24, sizes, data, 8, seed=3, folder=tmp_path) for _ in range(2))
    assert fingerprint(alae) == before and torch.equal(torch.get_rng_state(), state)
    assert found.gan.generator.config.latent == 5, "the expert's, whatever the sizes said"
    assert torch.equal(found.gan.mean, found.codes.mean(0))
    networks = (found.gan.generator, found.gan.critic)
    assert found.parameters == sum(p.numel() for network in networks for p in network.parameters())
    assert torch.equal(found.gan.sample(4), again.gan.sample(4))
    other = transfer_gan(alae, data, 24, sizes, seed=4, folder=tmp_path)
    assert not torch.equal(found.gan.sample(4), other.gan.sample(4))
    assert found.history.steps == 24 and len(found.history.curve["Fréchet distance of codes"]) == 12
    with pytest.raises(CourseError, match="at least two"):
        transfer_gan(alae, data.subset(torch.arange(1)), 2, sizes)


def test_a_mindgan_of_new_digits_on_an_autoencoder_of_others(tmp_path):
    """Source: 0 to 4. Target: 5 to 9, which the autoencoder has never seen. Published sizes."""
    data, expert = load_digits(), DigitAutoencoder()
    assert sum(p.numel() for p in expert.encoder.parameters()) == 617_664
    assert sum(p.numel() for p in expert.decoder.parameters()) == 399_105 and isinstance(expert, TargetExpert)
    with pytest.raises(CourseError, match="28 pixels"):
        expert(torch.zeros(1, 3, 32, 32))
    low = data.labels["class"] < 5
    x = data.subset(low).batch(torch.arange(256))
    optimizer, errors = torch.optim.Adam(expert.parameters(), 1e-3, (0.9, 0.9)), []
    for step in range(60):
        part = x[torch.arange(64) + 64 * (step % 4)]
        loss = F.mse_loss(expert(part), part[:, :1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < errors[0] / 2
    before = fingerprint(freeze(expert))
    found = transfer_gan(expert, data.subset(~low), 60, DIGITS, folder=tmp_path, average=None)
    z, blank = found.gan.noise(len(found.codes)), MindGenerator(DIGITS).eval()
    untrained = frechet_distance(found.codes, blank(z).detach())
    assert frechet_distance(found.codes, found.gan.codes(z)) < untrained / 2
    assert found.gan.sample(4).shape == (4, 3, 28, 28) and fingerprint(expert) == before


# --- files and the walk ----------------------------------------


@pytest.fixture
def gan(alae):
    return TransferredGAN(MindGenerator(SMALL), alae, MindCritic(SMALL), torch.randn(20, 5))


def test_what_is_stored_comes_back(gan, tmp_path):
    alae_card = Card("some-alae", "alae", vars(gan.expert.config))
    save_weights(gan.expert.state_dict(), alae_card, tmp_path, bits=32)
    card = Card("some", MIND_KIND, {"source": "some-alae", "target": "tiny", "networks": vars(SMALL)})
    save_weights(mindgan_tensors(gan), card, tmp_path, bits=32)
    opened = open_transferred("some", folder=tmp_path)
    torch.testing.assert_close(opened.draw(gan.noise(4)), gan.draw(gan.noise(4)))
    assert torch.allclose(opened.mean, gan.mean) and not any(p.requires_grad for p in opened.generator.parameters())
    save_weights({}, Card("other", "classifier", {}), tmp_path)
    with pytest.raises(CourseError, match="not a MindGAN"):
        open_transferred("other", folder=tmp_path)
    with pytest.raises(CourseError, match="critic="):
        mindgan_tensors(TransferredGAN(gan.generator, gan.expert))


def test_both_walks_begin_and_end_at_the_samples_and_differ_between(gan):
    walk = CodeWalk({"one": gan}, samples=3)
    ends = gan.draw(walk.noise["one"][[0, 2]])
    strips = {space: walk.strip("one", 0, 2, (0.0, 0.5, 1.0), space) for space in ("z", "w")}
    for strip in strips.values():
        torch.testing.assert_close(strip[[0, 2]], ends)
    assert not torch.allclose(strips["z"][1], strips["w"][1])
    flat = walk.strip("one", 0, 1, (0.0, 1.0), truncation=0.0)
    torch.testing.assert_close(flat[0], flat[1])
    for call in (
        lambda: CodeWalk({"one": gan}, 1),
        lambda: walk.strip("one", 0, 1, (0.5,), "x"),
    ):
        with pytest.raises(CourseError):
            call()


def test_the_view_moves_and_is_pure(gan):
    walk = CodeWalk({"one": gan, "two": TransferredGAN(MindGenerator(SMALL), gan.expert, codes=torch.randn(9, 5))})
    view = walk.view()
    base = view.values()
    assert walk.render(**base) == walk.render(**base) == view.picture.value
    assert Image.open(io.BytesIO(view.picture.value)).width >= 3 * 16 * 5
    changes = {"target": "two", "first": 3, "second": 4, "way": 0.1, "truncation": 0.3, "space": "z"}
    for name, value in changes.items():
        assert walk.render(**(base | {name: value})) != walk.render(**base), name
        view.controls[name].value = value
    assert view.picture.value == walk.render(**(base | changes)) and not view.message.value
