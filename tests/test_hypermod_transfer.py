"""Transfer by hyper-modulation: self-alignment, discriminator, contrastive term, training, and what is kept."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.experts import LatentSpace, fingerprint, load_expert
from course_lib.experts.protocol import SourceModel
from course_lib.gan_training import GANData, GANSchedule
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig, StyleGANCritic
from course_lib.hypermod import (
    HYPER_KIND,
    AlignmentLoss,
    ConditionalDiscriminator,
    HyperGenerator,
    HyperModulationMethod,
    SelfAlignmentMethod,
    barlow_twins,
    draw_classes,
    hyper_config,
    hyper_tensors,
    load_hypermod,
    picture_distance,
    random_view,
    transfer_data,
)
from course_lib.recipes.hypermod import KINDS_LEARNED, VARIANTS, ConditionalStyleGAN, build_variant
from course_lib.training import Budget, Card, save_weights, train

SMALL = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2, fused_from=16)
QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}
AT_ONCE = GANSchedule(decode=0, lead=0, averaging=0.5)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def source():
    torch.manual_seed(0)
    network = StyleGAN(SMALL).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("bias") and "style" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture
def critic():
    torch.manual_seed(1)
    return StyleGANCritic(SMALL)


@pytest.fixture
def data():
    """Eighteen pictures of three classes, each with a code."""
    images = 2 * torch.rand(18, 3, 16, 16, generator=noise()) - 1
    return GANData(images, torch.randn(18, 6, generator=noise(2)), torch.arange(18) % 3)


def samples(network, labels=None):
    z = torch.randn(4, 6, generator=noise(3))
    with torch.no_grad():
        return network(z, labels, network.synthesis.noise(4, noise(4)))


def samples_of(source):
    with torch.no_grad():
        return source(torch.randn(4, 6, generator=noise(3)), source.synthesis.noise(4, noise(4)))


# --- self-alignment ---


def test_alignment_is_zero_at_the_analytic_start_and_falls_from_a_random_one(source):
    z, maps = torch.randn(8, 6, generator=noise()), source.synthesis.noise(8, noise(1))
    exact = AlignmentLoss(HyperGenerator(source, 1, width=5))(z, maps)
    assert len(exact) == 3 and max(part.item() for part in exact) < 1e-5
    torch.manual_seed(2)
    hyper, before = HyperGenerator(source, 1, width=5, start="random"), fingerprint(source)
    start = sum(AlignmentLoss(hyper)(z, maps)).item()
    train(SelfAlignmentMethod(hyper, rate=1e-2), Budget(120), 8, **QUIET)
    assert sum(AlignmentLoss(hyper)(z, maps)).item() < 0.5 * start
    assert fingerprint(source) == before


@pytest.mark.parametrize("published", [False, True])
def test_alignment_losses_compare_the_maps_after_every_block(source, published):
    hyper = HyperGenerator(source, 1, width=5, start="random", published=published)
    z, maps = torch.randn(4, 6), source.synthesis.noise(4)
    found = AlignmentLoss(hyper)(z, maps)
    w = source.styles(z)
    vectors = hyper.classes(torch.zeros(4, dtype=torch.int64))
    student, x = [], None
    layers = iter(zip(hyper.convs, hyper.heads, strict=True))
    for block, one in zip(source.synthesis.blocks, maps, strict=True):

        def convolve(y):
            conv, head = next(layers)
            return conv(y, *head(vectors))

        x = block(x, w, one, convolve)
        student.append(x)
    for part, mine, wanted in zip(found, student, source.synthesis.features(w, maps), strict=True):
        assert part.item() == pytest.approx((mine - wanted).abs().mean().item(), rel=1e-4)


def test_it_watches_what_is_drawn_without_learning_from_it(source):
    exact = HyperGenerator(source, 1, width=5)
    z, maps = torch.randn(4, 6), source.synthesis.noise(4)
    assert picture_distance(exact, z, maps) < 1e-5
    torch.manual_seed(2)
    found = []
    for every in (2, 0):
        torch.manual_seed(2)
        student = HyperGenerator(source, 1, width=5, start="random")
        curve = train(SelfAlignmentMethod(student, every=every), Budget(20), 4, log_every=2, **QUIET).curve
        found.append(fingerprint(student))
        if every:
            assert len(curve["pictures"]) == 10 and curve["pictures"][-1] < curve["pictures"][0]
    assert found[0] == found[1]


def test_alignment_refuses_several_classes_and_a_source_that_trains(source):
    with pytest.raises(CourseError, match="one class"):
        SelfAlignmentMethod(HyperGenerator(source, 2))
    with pytest.raises(CourseError, match="heads alone"):
        SelfAlignmentMethod(HyperGenerator(source, 1, finetune=True))


def test_after_the_hand_over_all_classes_draw_what_the_one_class_drew(source):
    hyper = HyperGenerator(source, 1, width=5, start="random")
    one = samples(hyper, torch.zeros(4, dtype=torch.int64))
    grown = hyper.with_classes(3)
    assert grown.classes.table.shape == (3, 5) and grown.classes.table.requires_grad
    assert torch.allclose(samples(grown, torch.tensor([0, 1, 2, 1])), one, atol=1e-5)


@pytest.mark.parametrize("class_styles", [False, True])
def test_finished_kernels_draw_the_same_pictures(source, class_styles):
    hyper = HyperGenerator(source, 3, width=5, start="random", class_styles=class_styles)
    if class_styles:
        torch.nn.init.normal_(hyper.style_head.linear.weight)
    labels = torch.tensor([2, 0, 1, 0])
    wanted = samples(hyper, labels)
    z, maps = torch.randn(4, 6, generator=noise(3)), source.synthesis.noise(4, noise(4))
    kernels = hyper.modulation(torch.arange(3))
    assert len(kernels) == 3
    assert torch.allclose(hyper(z, kernels, maps, owner=labels), wanted, atol=1e-5)
    assert torch.allclose(hyper(z, hyper.modulation(hyper.classes(labels)), maps), wanted, atol=1e-5)
    one = hyper(z, hyper.modulation(torch.tensor([0])), maps)
    assert torch.allclose(one[[1, 3]], wanted[[1, 3]], atol=1e-5)


# --- the discriminator ---


def test_the_discriminator_begins_as_its_source_with_the_first_layer_frozen(critic):
    images, labels = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 2, 1, 0])
    same = ConditionalDiscriminator.from_source(critic, 3)
    assert torch.allclose(same(images, labels), critic(images), atol=1e-6)
    assert torch.allclose(same(images), critic.features(images), atol=1e-6)
    assert critic.head.weight.data_ptr() != same.head.weight.data_ptr()
    assert not any(p.requires_grad for name, p in same.named_parameters() if "from_rgb" in name)
    assert all(p.requires_grad for name, p in same.named_parameters() if "from_rgb" not in name)
    fresh = ConditionalDiscriminator(critic.config, 3)
    assert [layer.weight.requires_grad for layer in fresh.from_rgb] == [True, False, False]


# --- the contrastive term ---


def test_barlow_twins_is_the_published_formula_in_double_precision():
    first, second = torch.randn(12, 7, generator=noise()), torch.randn(12, 7, generator=noise(1))
    a, b = (x.double() for x in (first, second))
    a, b = ((x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt() for x in (a, b))
    wanted = 0.0
    for i in range(7):
        for j in range(7):
            c = (a[:, i] * b[:, j]).sum() / 12
            wanted += (1 - c) ** 2 if i == j else 0.005 * c**2
    assert barlow_twins(first, second).item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize(("count", "value", "tolerance"), [(10, 145, 4), (4, 437, 12), (32, 42, 2), (256, 5.1, 0.3)])
def test_equal_views_leave_the_noise_of_the_correlation(count, value, tolerance):
    views = torch.randn(count, 512, generator=noise())
    assert barlow_twins(views, views).item() == pytest.approx(value, abs=tolerance)


def test_unrelated_views_cost_more():
    first, second = torch.randn(2, 10, 512, generator=noise())
    assert barlow_twins(first, second).item() == pytest.approx(709, abs=40)


def test_views_are_changed_picture_by_picture():
    latents = torch.randn(1, 16, 8, 8, generator=noise()).expand(12, -1, -1, -1)
    draws = noise(1)
    first, second = random_view(latents, draws), random_view(latents, draws)
    assert first.shape == latents.shape and not torch.allclose(first, second)
    assert len({tuple(one.flatten()[:40].tolist()) for one in first}) == 12
    assert torch.equal(random_view(latents, noise(1)), first)


# --- training ---


def build(source, critic, data, generator=None, schedule=AT_ONCE, **settings):
    torch.manual_seed(5)
    generator = generator or HyperGenerator(source, 3, width=5)
    return HyperModulationMethod(
        data, generator, ConditionalDiscriminator.from_source(critic, 3), schedule, **{"r1": 0.5} | settings
    )


def moved(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def copy(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_default_moves_heads_and_class_network_alone_and_the_source_stays(source, critic, data):
    method = build(source, critic, data, contrastive=0.01)
    hyper = method.modules["generator"]
    states = {name: copy(module) for name, module in method.modules.items()}
    before, pictures = fingerprint(source), samples(hyper)
    history = train(method, Budget(3), 6, log_every=1, **QUIET)
    averaged = history.averaged["generator"]
    assert {"loss/generator", "loss/critic", "r1", "contrastive real", "contrastive drawn"} <= set(history.curve)
    changed = moved(hyper, states["generator"])
    assert changed == {n for n in states["generator"] if n.startswith(("heads.", "classes."))}
    assert not any(n.startswith("from_rgb") for n in moved(method.modules["critic"], states["critic"]))
    assert {"head.weight", "blocks.0.conv1.weight"} <= moved(method.modules["critic"], states["critic"])
    assert fingerprint(source) == before
    assert torch.equal(samples(hyper), pictures) and torch.equal(samples(averaged), pictures)
    assert not torch.allclose(samples(hyper, torch.tensor([0, 1, 2, 0])), pictures, atol=1e-3)


def test_finetune_also_moves_copies_of_constant_noise_styles_and_to_rgb(source, critic, data):
    method = build(source, critic, data, HyperGenerator(source, 3, width=5, finetune=True))
    hyper = method.modules["generator"]
    states, pictures = copy(hyper), samples(hyper)
    assert torch.allclose(samples(hyper, torch.tensor([0, 1, 2, 0])), pictures, atol=1e-4)
    train(method, Budget(2), 6, **QUIET)
    changed = {n for n in states if n.startswith(("heads.", "classes.", "own.")) and "to_rgb.0" not in n}
    assert moved(hyper, states) == {n for n in changed if "to_rgb.1" not in n}
    assert not any("conv" in name for name in states if name.startswith("own."))
    assert torch.equal(samples(hyper), pictures)


def test_the_baseline_begins_as_its_source_and_moves_all(source, critic, data):
    network = ConditionalStyleGAN.from_source(source, 3)
    labels = torch.tensor([0, 1, 2, 1])
    assert torch.allclose(samples(network, labels), samples_of(source), atol=1e-5)
    before = copy(network)
    train(build(source, critic, data, network), Budget(9), 6, **QUIET)
    still = {n for n in before if n.startswith(("synthesis.to_rgb.0", "synthesis.to_rgb.1"))}
    assert moved(network, before) == set(before) - still
    z = torch.randn(1, 6, generator=noise(8)).expand(3, -1)
    maps = [one[:1].expand(3, -1, -1, -1) for one in network.synthesis.noise(3, noise(9))]
    first, second, _ = network(z, torch.arange(3), maps)
    assert not torch.allclose(first, second, atol=1e-5)


def test_a_step_is_the_logistic_game_of_each_class(source, critic, data):
    """R1 on real samples, drawn ones of the labels of the batch, the generator's score on its own class."""
    method = build(source, critic, data, mixing=0.0, r1=2.0)
    torch.nn.init.normal_(method.modules["critic"].head.weight)
    real, codes, labels = batch = method.batch(torch.arange(8), noise())
    draws = noise(1)
    z = torch.cat([torch.randn(8, 6, generator=draws), codes[:2]])
    maps = source.synthesis.noise(10, draws)
    torch.rand((), generator=draws)
    found = method.modules["generator"](z, torch.cat([labels, labels[:2]]), maps)
    seen, drawn = (x + 0.1 * torch.randn(x.shape, generator=draws) for x in (real, found[:8]))
    seen.requires_grad_(True)
    on_real, on_fake = (method.modules["critic"](x, labels) for x in (seen, drawn))
    gradient = torch.autograd.grad(on_real.sum(), seen, create_graph=True)[0].square().sum((1, 2, 3)).mean()
    game = (F.softplus(-on_real) + F.softplus(on_fake)).mean()
    for step, penalty in ((0, 8 * 2.0 * gradient), (1, 0.0)):
        first, second = list(method.losses(batch, noise(1), step))
        assert (first.optimizer, second.optimizer) == ("critic", "generator")
        torch.testing.assert_close(first.value, game + penalty, rtol=1e-4, atol=1e-5)
        error = (found[8:] - real[:2]).square().mean()
        torch.testing.assert_close(second.value, F.softplus(-on_fake).mean() + 2.0 * error, rtol=1e-4, atol=1e-5)
    method.modules["generator"].zero_grad()
    first.value.backward()
    assert all(p.grad is None or not p.grad.any() for p in method.modules["generator"].parameters())


def test_decoding_comes_first_and_leaves_the_discriminator_alone(source, critic, data):
    method = build(source, critic, data, schedule=GANSchedule(decode=4, lead=2))
    before = copy(method.modules["critic"])
    for step, phases in ((0, ["decoder"]), (2, ["decoder", "critic"]), (4, ["critic", "generator"])):
        losses = method.losses(method.batch(torch.arange(6), noise()), noise(1), step)
        assert [loss.optimizer for loss in losses] == phases
    train(method, Budget(2), 6, **QUIET)
    assert not moved(method.modules["critic"], before)


def test_a_resumed_transfer_ends_in_the_same_bits(source, critic, data, tmp_path):
    def run(steps, **options):
        method = build(source, critic, data, contrastive=0.01)
        method.learning_rate = lambda progress: 1.0  # else it depends on the budget
        history = train(method, Budget(steps), 6, **{**QUIET, **options})
        modules = [method.modules["generator"], method.modules["critic"], history.averaged["generator"]]
        return [fingerprint(module) for module in modules]

    whole = run(6)
    run(3, folder=tmp_path)
    assert run(6, folder=tmp_path, resume=True) == whole


def test_it_trains_in_half_precision(source, critic, data):
    method = build(source, critic, data)
    pictures = samples(method.modules["generator"])
    train(method, Budget(2), 6, precision="bf16-mixed", **QUIET)
    assert torch.equal(samples(method.modules["generator"]), pictures)


def test_what_does_not_fit_together_is_refused(source, critic, data):
    hyper = HyperGenerator(source, 3, width=5)
    with pytest.raises(CourseError, match="2 classes and the data have label 2"):
        HyperModulationMethod(data, hyper, ConditionalDiscriminator.from_source(critic, 2))
    other = ConditionalDiscriminator(replace(SMALL, critic=(8, 8, 8)), 3)
    with pytest.raises(CourseError, match="different sizes"):
        HyperModulationMethod(data, hyper, other)


def correlation(first, second):
    first, second = (F.batch_norm(x.float(), None, None, training=True) for x in (first, second))
    return first.T @ second / len(first)


def test_two_processes_train_one_network(tmp_path):
    script = Path(__file__).with_name("hypermod_script.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, tmp_path]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for name in ("contrastive", "fine-tuned copies", "all weights", "from scratch", "aligned"):
        assert first[name] == second[name], name
    views = torch.randn(2, 2, 16, 7, generator=noise(1)).double().requires_grad_()
    joint = (correlation(*views[0]) + correlation(*views[1])) / 2
    own = joint.diagonal()
    value = (1 - own).square().sum() + 0.005 * (joint.square().sum() - own.square().sum())
    assert first["contrastive value"] == pytest.approx(value.item(), rel=1e-4) == second["contrastive value"]
    # The wrapper divides the sum over processes by their number, so each must hold that many times its share.
    value.backward()
    for rank, result in enumerate((first, second)):
        wanted = 2 * views.grad[rank].flatten().float()
        torch.testing.assert_close(torch.tensor(result["gradient"]), wanted, rtol=1e-3, atol=1e-6)


# --- variants, samples, files ---


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_begins_where_it_should(name, source, critic, data):
    aligned = HyperGenerator(source, 1, width=5, start="random") if name.startswith("self-aligned") else None
    known = SourceModel("toy", source, critic, None)
    method = build_variant(name, data, known, AT_ONCE, width=5, aligned=aligned)
    labels = torch.tensor([0, 1, 2, 0])
    like_source = torch.allclose(samples(method.modules["generator"], labels), samples_of(source), atol=1e-4)
    assert like_source == (not name.startswith("self-aligned") and "random" not in name and name != "from scratch")
    before = fingerprint(source)
    curve = train(method, Budget(2), 6, log_every=1, **QUIET).curve
    assert ("contrastive real" in curve) == (name == "contrastive")
    assert fingerprint(source) == before


def test_variants_that_do_not_exist_are_refused(source, critic, data):
    known = SourceModel("toy", source, critic, None)
    with pytest.raises(CourseError, match="no variant"):
        build_variant("magic", data, known)
    with pytest.raises(CourseError, match="aligned"):
        build_variant("self-aligned", data, known)


def test_pictures_of_all_generators_share_their_noise(source):
    hyper, other = HyperGenerator(source, 3, width=5), ConditionalStyleGAN.from_source(source, 3)
    labels = torch.tensor([0, 1, 2])
    drawn = draw_classes(hyper, labels)
    assert drawn.shape == (3, 3, 16, 16) and drawn.abs().max() <= 1
    assert torch.allclose(drawn, draw_classes(other, labels), atol=1e-4)


def test_class_styles_begin_at_nothing_and_then_move_what_kernels_cannot(source):
    hyper = HyperGenerator(source, 3, width=5, class_styles=True)
    labels = torch.tensor([2, 0, 1, 0])
    z, maps = torch.randn(4, 6, generator=noise(3)), source.synthesis.noise(4, noise(4))
    assert torch.allclose(hyper(z, labels, maps), source(z, maps), atol=1e-4), "exact start"
    torch.nn.init.normal_(hyper.style_head.linear.weight)
    offsets = hyper.modulation(labels).styles
    assert offsets.shape == (4, 3, 6)
    by_hand = source.synthesis(source.styles(z)[:, None] + offsets, maps)
    assert torch.allclose(hyper(z, labels, maps), by_hand, atol=1e-4), "one offset a class and block, added to w"
    assert torch.equal(hyper(z, None, maps), source(z, maps)), "the source has no class"
    # AdaIN sets mean and standard deviation of each channel from the style: style offsets reach them, kernels do not.
    hyper.style_head.linear.weight.data.zero_()
    before = [map.mean((0, 2, 3)) for map in source.synthesis.features(source.styles(z), maps)]
    for head in hyper.heads:
        torch.nn.init.normal_(head.kernel.weight)
    after = [map.mean((0, 2, 3)) for map in hyper.features(source.styles(z), hyper.modulation(labels), maps)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("rank", "finetune"), [(None, False), (2, True)])
def test_a_saved_hyper_generator_draws_as_before_over_its_source(source, critic, data, rank, finetune, tmp_path):
    save_weights(source.state_dict(), Card("base", "stylegan", vars(SMALL)), tmp_path, 32)
    method = build(source, critic, data, HyperGenerator(source, 3, 5, rank, finetune=finetune, class_styles=finetune))
    train(method, Budget(2), 6, **QUIET)
    hyper, labels = method.modules["generator"], torch.tensor([0, 1, 2, 1])
    card = Card(
        "new", HYPER_KIND, hyper_config("base", ["a", "b", "c"], 5, rank, finetune=finetune, class_styles=finetune)
    )
    save_weights(hyper_tensors(hyper), card, tmp_path, 32)
    opened = load_hypermod("new", folder=tmp_path)
    assert opened.class_names == ["a", "b", "c"] and not any(p.requires_grad for p in opened.parameters())
    assert torch.allclose(samples(opened, labels), samples(hyper, labels), atol=1e-5)
    assert torch.allclose(samples(opened), samples_of(source), atol=1e-6)
    with pytest.raises(CourseError, match="is a stylegan"):
        load_hypermod("base", folder=tmp_path)
    save_weights({"heads.0.bias.bias": torch.zeros(8)}, card, tmp_path, 32)
    with pytest.raises(CourseError, match="does not fit"):
        load_hypermod("new", folder=tmp_path)


def test_a_few_pictures_and_their_mirror_images_have_finite_codes():
    images = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=noise())
    few = ImageSet("few", images, {"class": torch.arange(8) % 2}, {"class": ["a", "b"]})
    known = transfer_data(LatentSpace(load_expert("avatar-autoencoder")), few, 64)
    assert known.latents.shape == (16, 16, 8, 8) and known.labels.tolist() == 2 * few.labels["class"].tolist()
    assert known.codes.isfinite().all() and known.codes.abs().max() < 10


def test_the_shipped_generator_draws_six_kinds_and_its_source():
    hyper = load_hypermod()
    assert hyper.class_names == list(KINDS_LEARNED)
    z = torch.randn(1, 64, generator=noise()).expand(6, -1)
    maps = [one.expand(6, -1, -1, -1) for one in hyper.synthesis.noise(1, noise(1))]
    latents = hyper(z, torch.arange(6), maps)
    assert latents.shape == (6, 16, 8, 8)
    apart = [(a - b).abs().mean().item() for k, a in enumerate(latents) for b in latents[k + 1 :]]
    assert min(apart) > 0.2, "classes differ"
    assert torch.equal(hyper(z, None, maps), load_expert("avatar-stylegan")(z, maps))
