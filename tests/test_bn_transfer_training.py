"""Training on new classes: the published step, both stages, what is resumed, the best generators, one's own file."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from course_lib.bn_transfer import (
    BN_KIND,
    METHODS,
    PropagationMethod,
    PropagationSettings,
    bn_transfer_tensors,
    draw_new_classes,
    fit_mixtures,
    load_bn_transfer,
    make_networks,
    new_class_data,
    penalty,
    recalibrate_batchnorm,
    similar_mixtures,
    transfer_config,
    with_old,
)
from course_lib.data import kind_classes, target_classes
from course_lib.errors import CourseError
from course_lib.experts import fingerprint
from course_lib.experts.protocol import SourceModel
from course_lib.gan_training import GANData, GANSchedule, load_codes
from course_lib.gans.biggan import BigGANConfig, Discriminator, Generator
from course_lib.generation import open_generator
from course_lib.training import Budget, Card, save_weights, train

CONFIG = BigGANConfig(7, (16, 16, 8, 8), (8, 8, 16, 16), 3, 16, 6, (16,))
NEW, OLD = 3, ("a", "b", "c", "d", "e", "f", "g")
QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}
FAST = GANSchedule(decode=1, lead=1, averaging=0.5)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def known(count=24):
    pictures = torch.rand(count, 3, 32, 32, generator=noise()) * 2 - 1
    return GANData(pictures, torch.randn(count, 16, generator=noise(1)), torch.arange(count) % NEW)


@pytest.fixture
def source():
    torch.manual_seed(0)
    networks = (kind(CONFIG).eval().to(memory_format=torch.channels_last) for kind in (Generator, Discriminator))
    return SourceModel("tiny", *networks, None, OLD)


MIXTURES = torch.rand(NEW, 7, generator=noise(2)).softmax(1)


def made(source, **options):
    settings = PropagationSettings(**{"batch_size": 6, "schedule": FAST} | options)
    return PropagationMethod(known(), *make_networks(source, settings, MIXTURES), settings)


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_published_steps_are_the_discriminators_then_the_generators(source, steps):
    settings = replace(PropagationSettings.published("imagenet"), critic_steps=steps, variant="additive")
    method = PropagationMethod(known(), *make_networks(source, settings, MIXTURES), settings)
    phases = []
    for name, optimizer in method.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: phases.append(name))
    before = {name: fingerprint(module) for name, module in method.modules.items()}
    train(method, Budget(1), 6, **QUIET)
    assert phases == ["critic"] * steps + ["generator"] and method.learning_rate(1.0) == 1.0
    assert all(fingerprint(module) != before[name] for name, module in method.modules.items())
    assert method.optimizers["critic"].param_groups[0]["lr"] == 4e-4 and method.ema == {}
    assert method.optimizers["generator"].param_groups[0]["betas"] == (0.0, 0.999)


def test_the_penalty_is_part_of_both_generator_losses(source):
    plain, heavy = made(source, l1=0.0, l2=0.0), made(source, l1=3.0, l2=5.0)
    for step in (0, 1):
        values = []
        for method in (plain, heavy):
            batch = method.batch(torch.arange(6), noise())
            found = {loss.optimizer: loss.value.item() for loss in method.losses(batch, noise(), step)}
            values.append(found["decoder" if step == 0 else "generator"])
        wanted = penalty(heavy.modules["generator"], 3.0, 5.0).item()
        assert wanted > 0 and values[1] - values[0] == pytest.approx(wanted, rel=1e-3)


def test_networks_and_settings_that_do_not_fit_are_refused(source):
    settings = PropagationSettings()
    with pytest.raises(CourseError, match="classes=3"):
        PropagationMethod(known(), *make_networks(source, settings, MIXTURES[:2]), settings)
    with pytest.raises(CourseError, match="method"):
        PropagationSettings("distillation")
    with pytest.raises(CourseError, match="mixture"):
        PropagationSettings(init="nearest")
    with pytest.raises(CourseError, match="published"):
        PropagationSettings.published("additive")


@pytest.mark.parametrize("init", ["mixture", "mean", "random"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_begins_where_it_says_and_trains(source, method, init):
    one = made(source, method=method, init=init)
    generator, discriminator = one.modules["generator"], one.modules["critic"]
    trunk = {name: t for name, t in source.discriminator.state_dict().items() if "embed" not in name}
    same = all(torch.equal(t, trunk[name]) for name, t in discriminator.state_dict().items() if name in trunk)
    assert same == (method != "scratch")
    z, labels = torch.randn(NEW, 16), torch.arange(NEW)
    weights = {"mixture": MIXTURES, "mean": torch.full_like(MIXTURES, 1 / 7), "random": MIXTURES}[init]
    with torch.no_grad():
        first = generator.eval()(z, generator.embed(labels))
        expected = source.generator(z, weights @ source.generator.shared.weight)
    assert torch.allclose(first, expected, atol=1e-4) == (init != "random" and method != "scratch")
    if (method, init) == ("free", "random"):
        assert all(not part.mixing_weights().any() and part.residual.weight.any() for part in generator.propagations())
    history = train(one, Budget(2), 6, **QUIET)
    trained = recalibrate_batchnorm(history.averaged["generator"])
    assert not torch.equal(trained(z, trained.embed(labels)), first)
    pictures, owner = draw_new_classes(trained, None, 2)
    assert pictures.shape == (6, 3, 32, 32) and owner.tolist() == [0, 0, 1, 1, 2, 2]


# --- stages -----------------------------------------------------------------------------------------------------------


def test_one_run_has_both_stages_and_leaves_the_old_classes(source):
    method = made(source, ft_from=2, own_rate=3.0)
    generator = method.modules["generator"]
    kept, states, rates = fingerprint(generator.source), [], []

    def watch(step):
        target = generator.target
        mixing = torch.stack([part.mixing_weights() for part in generator.propagations()])
        states.append((mixing, target.linear.weight.detach().clone(), target.output_layer[0].gain.detach().clone()))

    method.watch = watch
    method.optimizers["generator"].register_step_post_hook(
        lambda one, *_: rates.append([group["lr"] for group in one.param_groups])
    )
    train(method, Budget(4), 6, **QUIET)
    watch(4)
    mixing, linear, gain = zip(*states, strict=True)
    assert not torch.equal(mixing[0], mixing[2]) and torch.equal(mixing[2], mixing[4])
    assert torch.equal(linear[0], linear[2]) and not torch.equal(linear[2], linear[4])
    assert torch.equal(gain[0], gain[2]) and not torch.equal(gain[2], gain[4])
    assert fingerprint(generator.source) == kept == fingerprint(source.generator)
    assert all(own == pytest.approx(3 * shared) for shared, own in rates)
    z, labels = torch.randn(7, 16), torch.arange(7)
    assert torch.equal(generator.old(z, labels), source.generator(z, source.generator.embed(labels)))


def test_a_run_that_was_cut_between_the_stages_ends_in_the_same_bits(source, tmp_path):
    ends = []
    for stops in ((4,), (2, 4)):
        for stop in stops:
            method = made(source, ft_from=2, constant=True)
            train(method, Budget(stop), 6, folder=tmp_path / str(len(stops)), resume=True, **QUIET)
        ends.append(fingerprint(method.modules["generator"]))
    assert ends[0] == ends[1]


# --- the shipped source -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    return SourceModel.load("avatar-biggan")


def test_codes_are_those_that_the_source_learned_to_decode(shipped):
    names = ["clay", "micah", "slice"]
    data = kind_classes(names).part("val")
    found = new_class_data(shipped, data, load_codes())
    labels = torch.tensor([shipped.classes.index(name) for name in names])[found.labels]
    with torch.no_grad():
        condition = shipped.generator.embed(labels)
        error, chance = (
            F.mse_loss(shipped.generator(z, condition), found.latents.float())
            for z in (found.codes, torch.randn(found.codes.shape, generator=noise()))
        )
    assert error < 0.7 * chance
    with pytest.raises(CourseError, match="avatar-stylegan-codes"):
        load_codes("avatar-stylegan")


def test_mixtures_of_old_classes_are_found_in_their_pictures(shipped):
    data = kind_classes(["thumbs", "rings"]).part("val")
    found = similar_mixtures(shipped, shipped.space.encode_set(data), data.labels["class"])
    assert [shipped.classes[k] for k in found.argmax(1).tolist()] == ["thumbs", "rings"]
    assert torch.allclose(found.sum(1), torch.ones(2), atol=1e-5) and found.shape == (2, 28)
    with pytest.raises(CourseError, match="lengths"):
        fit_mixtures(torch.zeros(1, 3), torch.zeros(2, 4))


def test_fewer_old_classes_draw_the_same(shipped):
    fewer = with_old(shipped, 5, seed=1)
    assert len(fewer.classes) == fewer.generator.config.classes == fewer.discriminator.config.classes == 5
    z, labels = torch.randn(5, 64, generator=noise()), torch.arange(5)
    old = torch.tensor([shipped.classes.index(name) for name in fewer.classes])
    wanted = shipped.generator(z, shipped.generator.embed(old))
    assert torch.equal(fewer.generator(z, fewer.generator.embed(labels)), wanted)
    with pytest.raises(CourseError, match="28"):
        with_old(shipped, 29)


@pytest.mark.parametrize("ft_from", [None, 0])
def test_new_classes_come_back_from_a_file(shipped, tmp_path, ft_from):
    data = target_classes(names=["planets", "moods"], per_class=4).part("train")
    found = new_class_data(shipped, data, load_codes())
    settings = PropagationSettings(batch_size=4, schedule=FAST, ft_from=ft_from)
    mixtures = similar_mixtures(shipped, found.latents, found.labels)
    method = PropagationMethod(found, *make_networks(shipped, settings, mixtures), settings, shipped.space)
    assert method.preview().shape[1:] == (3, 64, 64)
    train(method, Budget(1), 4, **QUIET)
    made_now = recalibrate_batchnorm(method.modules["generator"], 1)
    config = transfer_config(made_now, "avatar-biggan", ["planets", "moods"])
    card = Card("own", BN_KIND, config, {"space": "avatar-autoencoder"})
    path = save_weights(bn_transfer_tensors(made_now), card, tmp_path, bits=32)
    assert path.stat().st_size < (600_000 if ft_from is None else 4_000_000)
    again = load_bn_transfer("own", folder=tmp_path)
    z, labels = torch.randn(4, 64, generator=noise()), torch.tensor([0, 1, 1, 0])
    with torch.no_grad():
        assert torch.equal(again(z, again.embed(labels)), made_now(z, made_now.embed(labels)))
        assert torch.equal(again.old(z, labels), shipped.generator(z, shipped.generator.embed(labels)))
    assert again.class_names == ["planets", "moods"] and tuple(again.old_names) == shipped.classes
    opened = open_generator(tmp_path / "own")
    assert opened.classes == ["planets", "moods"]
    assert opened.draw(z, opened.vectors_of(["moods"] * 4)).shape == (4, 3, 64, 64)
    with pytest.raises(CourseError, match="not a transferred biggan"):
        load_bn_transfer("avatar-biggan")
