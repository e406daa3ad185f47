"""Transfer by hyper-modulation: self-alignment, critic, contrastive term, training, and what is kept."""

import colorsys
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from course_lib.data import TRANSFER_CLASSES, ImageSet
from course_lib.errors import CourseError
from course_lib.experts import fingerprint, load_expert
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.gans.stylegan_critic import StyleGANCritic
from course_lib.hypermod import (
    ConditionalCritic,
    ConditionalStyleGAN,
    HyperGenerator,
    SelfAlignmentMethod,
    TransferMethod,
    TransferSettings,
    build_variant,
    load_hypermod,
    trained_parts,
)
from course_lib.hypermod.contrastive import barlow_twins, change, turn_hue, two_views
from course_lib.hypermod.scores import HeldOut, draw_classes
from course_lib.hypermod.self_alignment import alignment_losses
from course_lib.hypermod.shipped import KIND, hyper_config, hyper_tensors
from course_lib.hypermod.variants import VARIANTS
from course_lib.training import Budget, Card, save_weights, train

SMALL = StyleGANConfig((8, 8, 4), (8, 8, 4), 6, 2, fused_from=16)
QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}


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
    images = torch.randint(0, 256, (18, 3, 16, 16), dtype=torch.uint8, generator=noise())
    return ImageSet("tiny", images, {"class": torch.arange(18) % 3}, {"class": ["a", "b", "c"]})


def samples(network, labels=None):
    z = torch.randn(4, 6, generator=noise(3))
    with torch.no_grad():
        return network(z, labels, network.synthesis.noise(4, noise(4)))


# --- self-alignment ---


def test_alignment_is_zero_at_the_analytic_start_and_falls_from_a_random_one(source):
    z, maps = torch.randn(8, 6, generator=noise()), source.synthesis.noise(8, noise(1))
    exact = alignment_losses(HyperGenerator(source, 1, width=5), z, maps)
    assert len(exact) == 3 and max(part.item() for part in exact) < 1e-5
    torch.manual_seed(2)
    hyper, before = HyperGenerator(source, 1, width=5, start="random"), fingerprint(source)
    start = sum(alignment_losses(hyper, z, maps)).item()
    train(SelfAlignmentMethod(hyper, rate=1e-2), Budget(120), 8, **QUIET)
    assert sum(alignment_losses(hyper, z, maps)).item() < 0.5 * start
    assert fingerprint(source) == before


@pytest.mark.parametrize("published", [False, True])
def test_alignment_losses_compare_the_maps_after_every_block(source, published):
    hyper = HyperGenerator(source, 1, width=5, start="random", published=published)
    z, maps = torch.randn(4, 6), source.synthesis.noise(4)
    found = alignment_losses(hyper, z, maps)
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


# --- the critic ---


def test_the_critic_begins_as_its_source_or_with_random_scores(critic):
    images, labels = torch.rand(6, 3, 16, 16), torch.tensor([0, 1, 2, 2, 1, 0])
    same = ConditionalCritic.from_source(critic, 3)
    assert torch.allclose(same(images, labels), critic(images), atol=1e-6)
    torch.manual_seed(7)
    other = ConditionalCritic.from_source(critic, 3, start="random")
    features = other(images)
    assert torch.allclose(features, critic.features(images), atol=1e-6)
    scores = features @ (other.head.weight * other.head.scale).T + other.head.bias
    assert torch.allclose(other(images, labels), scores[torch.arange(6), labels], atol=1e-5)
    assert not torch.allclose(other(images, labels), critic(images), atol=1e-2)
    assert critic.head.weight.data_ptr() != same.head.weight.data_ptr()


def test_from_rgb_is_frozen_unless_asked(critic):
    for wanted in (False, True):
        found = ConditionalCritic.from_source(critic, 3, from_rgb=wanted)
        assert [layer.weight.requires_grad for layer in found.from_rgb] == [wanted, False, False]
        assert all(p.requires_grad for name, p in found.named_parameters() if "from_rgb" not in name)


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


def test_views_are_changed_picture_by_picture_and_stay_in_range():
    images = torch.rand(1, 3, 16, 16, generator=noise()).mul(2).sub(1).expand(12, -1, -1, -1)
    first, second = two_views(images, noise(1))
    assert first.shape == images.shape and max(first.abs().max(), second.abs().max()) <= 1 + 1e-6
    assert not torch.allclose(first, second)
    assert len({tuple(one.flatten()[:40].tolist()) for one in first}) == 12
    again, _ = two_views(images, noise(1))
    assert torch.equal(first, again)


def test_hue_turns_as_in_the_standard_library():
    colours = torch.rand(30, 3, generator=noise())
    found = turn_hue(colours[:, :, None, None], torch.full((30, 1, 1, 1), 0.3))[:, :, 0, 0]
    for colour, turned in zip(colours.tolist(), found.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        assert turned == pytest.approx(colorsys.hsv_to_rgb((hue + 0.3) % 1, saturation, value), abs=1e-5)
    assert torch.allclose(turn_hue(torch.full((1, 3, 2, 2), 0.4), torch.ones(1, 1, 1, 1) * 0.2), torch.tensor(0.4))


def test_probabilities_of_blur_and_solarisation_are_kept():
    images = torch.full((400, 3, 8, 8), 0.9)
    share = [
        (change(images, noise(5), 0.0, chance).amin((1, 2, 3)) < -0.2).float().mean().item() for chance in (0.0, 1.0)
    ]
    assert share[0] < 0.01 and share[1] > 0.9
    edges = torch.ones(400, 3, 8, 8)
    edges[:, :, :, ::2] = -1
    rough = [change(edges, noise(6), chance, 0.0).diff(dim=3).abs().mean().item() for chance in (0.0, 1.0)]
    assert rough[1] < 0.8 * rough[0]


# --- training ---


def build(source, critic, data, settings=None, generator=None):
    torch.manual_seed(5)
    generator = generator or HyperGenerator(source, 3, width=5)
    settings = settings or TransferSettings(contrastive=0.01, ema=0.9)
    return TransferMethod(data, generator, ConditionalCritic.from_source(critic, 3), settings)


def moved(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def copy(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_default_moves_heads_and_class_network_alone_and_the_source_stays(source, critic, data):
    method = build(source, critic, data)
    hyper = method.modules["generator"]
    states = {name: copy(module) for name, module in method.modules.items()}
    before, pictures = fingerprint(source), samples(hyper)
    averaged = train(method, Budget(3), 6, **QUIET).averaged["generator"]
    changed = moved(hyper, states["generator"])
    assert changed == {n for n in states["generator"] if n.startswith(("heads.", "classes."))}
    assert not any(n.startswith("from_rgb") for n in moved(method.modules["critic"], states["critic"]))
    assert {"head.weight", "blocks.0.conv1.weight"} <= moved(method.modules["critic"], states["critic"])
    assert fingerprint(source) == before
    assert torch.equal(samples(hyper), pictures) and torch.equal(samples(averaged), pictures)
    assert not torch.allclose(samples(hyper, torch.tensor([0, 1, 2, 0])), pictures, atol=1e-3)


def test_finetune_also_moves_copies_of_constant_noise_styles_and_to_rgb(source, critic, data):
    method = build(source, critic, data, generator=HyperGenerator(source, 3, width=5, finetune=True))
    hyper = method.modules["generator"]
    states, pictures = copy(hyper), samples(hyper)
    assert torch.allclose(samples(hyper, torch.tensor([0, 1, 2, 0])), pictures, atol=1e-4)
    train(method, Budget(2), 6, **QUIET)
    changed = {n for n in states if n.startswith(("heads.", "classes.", "own.")) and "to_rgb.0" not in n}
    assert moved(hyper, states) == {n for n in changed if "to_rgb.1" not in n}
    assert not any("conv" in name for name in states if name.startswith("own."))
    assert torch.equal(samples(hyper), pictures)


def test_the_table_of_parts_says_what_training_moves(source, critic, data):
    generators = {
        "default": HyperGenerator(source, 3, width=5),
        "finetune": HyperGenerator(StyleGAN(SMALL), 3, width=5, finetune=True),
        "baseline": ConditionalStyleGAN.from_source(source, 3),
    }
    tables = {name: {p.name: p for p in trained_parts(network)} for name, network in generators.items()}
    for name, network in generators.items():
        rows = tables[name].values()
        assert sum(row.parameters for row in rows) == sum(p.numel() for p in network.parameters())
        assert sum(row.trained for row in rows) == sum(p.numel() for p in network.parameters() if p.requires_grad)
    trained = {name: {row.name for row in table.values() if row.trained} for name, table in tables.items()}
    assert trained["default"] == {"heads", "class network"}
    assert trained["finetune"] == {"heads", "class network"} | {
        f"{name}, own copy" for name in ("constant", "noise strengths", "styles (AdaIN)", "to-RGB")
    }
    assert "convolutions" in trained["baseline"] and "mapping network" in trained["baseline"]
    assert {row.name: bool(row.trained) for row in trained_parts(ConditionalCritic.from_source(critic, 3))} == {
        "from-RGB": False,
        "convolutions": True,
        "scores": True,
    }


def test_the_baseline_begins_as_its_source_and_moves_all(source, critic, data):
    network = ConditionalStyleGAN.from_source(source, 3)
    labels = torch.tensor([0, 1, 2, 1])
    assert torch.allclose(samples(network, labels), samples_of(source), atol=1e-5)
    before = copy(network)
    train(build(source, critic, data, generator=network), Budget(9), 6, **QUIET)
    still = {n for n in before if n.startswith(("synthesis.to_rgb.0", "synthesis.to_rgb.1"))}
    assert moved(network, before) == set(before) - still
    z = torch.randn(1, 6, generator=noise(8)).expand(3, -1)
    maps = [one[:1].expand(3, -1, -1, -1) for one in network.synthesis.noise(3, noise(9))]
    first, second, _ = network(z, torch.arange(3), maps)
    assert not torch.allclose(first, second, atol=1e-5)
    still = network(torch.randn(2, 6), torch.tensor([1, 1]), [one[:2] for one in maps], truncation=0.0)
    assert torch.allclose(still[0], still[1], atol=1e-5)


def samples_of(source):
    with torch.no_grad():
        return source(torch.randn(4, 6, generator=noise(3)), source.synthesis.noise(4, noise(4)))


def test_the_penalty_is_lazy_and_as_strong_on_average(source, critic, data):
    method = build(source, critic, data, TransferSettings(r1=5.0, r1_every=4, mixing=0.0, augment=False))
    seen = {}
    for step in range(5):
        generator_loss, critic_loss = list(method.losses(method.batch(torch.arange(6), noise()), noise(1), step))
        assert (generator_loss.optimizer, critic_loss.optimizer) == ("generator", "critic")
        seen[step] = critic_loss
    assert [step for step, loss in seen.items() if "r1" in loss.scalars] == [0, 4]
    extra = seen[0].value - seen[1].value
    assert extra.item() == pytest.approx(4 * 5.0 * seen[0].scalars["r1"].item(), rel=1e-3)


def test_losses_are_the_logistic_ones_and_fakes_have_the_labels_of_the_batch(source, critic, data):
    method = build(source, critic, data, TransferSettings(r1_every=2, mixing=0.0, augment=False))
    torch.nn.init.normal_(method.modules["critic"].head.weight)
    real, labels, codes = batch = method.batch(torch.arange(6), noise())
    assert codes is None
    generator_loss, critic_loss = list(method.losses(batch, noise(1), 1))
    draws = noise(1)
    z, _ = torch.randn(2, 6, 6, generator=draws)
    maps = source.synthesis.noise(6, draws)
    fake = method.modules["generator"](z, labels, maps)
    on_real, on_fake = (method.modules["critic"](x, labels) for x in (real, fake))
    assert generator_loss.value.item() == pytest.approx(F.softplus(-on_fake).mean().item(), rel=1e-5)
    wanted = (F.softplus(-on_real) + F.softplus(on_fake)).mean().item()
    assert critic_loss.value.item() == pytest.approx(wanted, rel=1e-5)
    method.modules["generator"].zero_grad()
    critic_loss.value.backward()
    assert all(p.grad is None or not p.grad.any() for p in method.modules["generator"].parameters())


def test_known_codes_are_decoded_in_the_same_pass(source, critic, data):
    settings = TransferSettings(r1_every=2, mixing=1.0, augment=False, reconstruction=3.0, code_noise=0.0)
    codes = torch.randn(2, 18, 6, generator=noise(2))
    hyper, conditional = HyperGenerator(source, 3, width=5), ConditionalCritic.from_source(critic, 3)
    method = TransferMethod(data, hyper, conditional, settings, codes=codes)
    torch.nn.init.zeros_(method.modules["critic"].head.weight)
    real, labels, known = batch = method.batch(torch.arange(8), noise())
    for picture, label, code in zip(real, labels, known, strict=True):
        flip, index = (codes == code).all(2).nonzero()[0].tolist()
        original = method.images[index]
        assert torch.equal(picture, original.flip(-1) if flip else original) and label == data.labels["class"][index]
    loss = next(method.losses(batch, noise(1), 1))
    draws = noise(1)
    torch.randn(2, 6, generator=draws), torch.randn(2, 8, 6, generator=draws)
    maps = [one[8:] for one in source.synthesis.noise(10, draws)]
    error = (hyper(known[:2], labels[:2], maps) - real[:2]).abs().mean()
    score = F.softplus(-conditional.head.bias.detach()[0])
    assert loss.scalars["reconstruction"].item() == pytest.approx(error.item(), rel=1e-4)
    assert loss.value.item() == pytest.approx((score + 3 * error).item(), rel=1e-4)
    with pytest.raises(CourseError, match="needs codes"):
        TransferMethod(data, hyper, conditional, settings)


def test_decoding_comes_first_and_faster(source, critic, data):
    settings = TransferSettings(decode_first=0.5, decode_rate=3.0, ema=0.5)
    hyper, conditional = HyperGenerator(source, 3, width=5), ConditionalCritic.from_source(critic, 3)
    method = TransferMethod(data, hyper, conditional, settings, codes=torch.randn(2, 18, 6, generator=noise(2)))
    before = copy(conditional)
    assert method.learning_rate(0.3) == 3.0 and 0 < method.learning_rate(0.0) < 0.1
    only = list(method.losses(method.batch(torch.arange(6), noise()), noise(1), 0))
    assert [loss.optimizer for loss in only] == ["generator"] and set(only[0].scalars) == {"reconstruction"}
    train(method, Budget(1), 6, **QUIET)
    assert not moved(conditional, before)
    assert method.learning_rate(0.5) == method.learning_rate(1.0) == 1.0
    both = method.losses(method.batch(torch.arange(6), noise()), noise(1), 0)
    assert [loss.optimizer for loss in both] == ["generator", "critic"]


def test_rates_fall_to_a_tenth_where_that_is_asked_for(source, critic, data):
    method = build(source, critic, data, TransferSettings(decay=0.2))
    found = [method.learning_rate(progress) for progress in (0.0, 0.8, 0.9, 1.0)]
    assert found == pytest.approx([1.0, 1.0, 0.55, 0.1])


def test_a_resumed_transfer_with_several_classes_ends_in_the_same_bits(source, critic, data, tmp_path):
    def run(steps, **options):
        method = build(source, critic, data)
        history = train(method, Budget(steps), 6, **{**QUIET, **options})
        modules = [method.modules["generator"], method.modules["critic"], history.averaged["generator"]]
        return [fingerprint(module) for module in modules]

    whole = run(6)
    run(3, folder=tmp_path)
    assert run(6, folder=tmp_path, resume=True) == whole


def test_it_trains_in_half_precision(source, critic, data):
    method = build(source, critic, data)
    pictures = samples(method.modules["generator"])
    curve = train(method, Budget(2), 6, precision="bf16-mixed", **QUIET).curve
    assert {"loss/generator", "loss/critic", "r1", "contrastive real", "contrastive fake"} <= set(curve)
    assert torch.equal(samples(method.modules["generator"]), pictures)


def test_what_does_not_fit_together_is_refused(source, critic, data):
    hyper, conditional = HyperGenerator(source, 3, width=5), ConditionalCritic.from_source(critic, 3)
    with pytest.raises(CourseError, match="no label 'kind'"):
        TransferMethod(data, hyper, conditional, label="kind")
    with pytest.raises(CourseError, match="2 classes and the data have label 2"):
        TransferMethod(data, hyper, ConditionalCritic.from_source(critic, 2))
    other = ConditionalCritic(replace(SMALL, critic=(8, 8, 8)), 3)
    with pytest.raises(CourseError, match="different sizes"):
        TransferMethod(data, hyper, other)


def test_preview_has_a_class_a_column(source, critic, data):
    assert build(source, critic, data).preview().shape == (24, 3, 16, 16)


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
    for name in ("contrastive", "finetune", "all weights", "from scratch", "aligned"):
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


# --- variants, scores, files ---


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains_and_begins_where_it_should(name, source, critic, data):
    aligned = HyperGenerator(source, 1, width=5, start="random") if name == "self-aligned" else None
    method = build_variant(name, data, source, critic, TransferSettings(ema=0.5), width=5, aligned=aligned)
    labels = torch.tensor([0, 1, 2, 0])
    like_source = torch.allclose(samples(method.modules["generator"], labels), samples_of(source), atol=1e-4)
    assert like_source == (name not in ("self-aligned", "random start", "from scratch"))
    before = fingerprint(source)
    curve = train(method, Budget(2), 6, **QUIET).curve
    assert ("contrastive real" in curve) == (name == "contrastive")
    assert fingerprint(source) == before


def test_variants_that_do_not_exist_are_refused(source, critic, data):
    with pytest.raises(CourseError, match="no variant"):
        build_variant("magic", data, source, critic)
    with pytest.raises(CourseError, match="aligned"):
        build_variant("self-aligned", data, source, critic)


class PixelJudge:
    """Features that are mean colours."""

    def features(self, images):
        return images.mean((2, 3))


def test_scores_are_class_wise_and_pictures_of_all_generators_share_their_noise(source, data):
    held_out = HeldOut.of(data, PixelJudge(), 16, samples=6)
    hyper = HyperGenerator(source, 3, width=5)
    scores = held_out.score(hyper)
    assert list(scores) == ["a", "b", "c", "intra-class mean"]
    rows = [scores[name]["kernel distance"] for name in "abc"]
    assert scores["intra-class mean"]["kernel distance"] == pytest.approx(sum(rows) / 3)
    assert held_out.mean(hyper) == scores["intra-class mean"]
    labels = torch.tensor([0, 1, 2])
    other = ConditionalStyleGAN.from_source(source, 3)
    assert torch.allclose(draw_classes(hyper, labels), draw_classes(other, labels), atol=1e-4)
    assert draw_classes(hyper, labels, batch_size=2).shape == (3, 3, 16, 16)


class Painter(torch.nn.Module):
    """One colour a class."""

    def __init__(self, order):
        super().__init__()
        self.colours = torch.nn.Parameter(torch.tensor([-0.8, 0.0, 0.8])[torch.tensor(order)])
        self.config, self.synthesis = SMALL, StyleGAN(SMALL).synthesis

    def forward(self, z, labels, maps):
        return self.colours[labels][:, None, None, None] + 0.1 * z.mean(1)[:, None, None, None].expand(-1, 3, 4, 4)


@pytest.mark.parametrize(("order", "accuracy"), [((0, 1, 2), 1.0), ((1, 2, 0), 0.0), ((0, 0, 0), 1 / 3)])
def test_class_accuracy_says_whether_the_class_asked_for_is_drawn(order, accuracy):
    colours = torch.tensor([25, 128, 230], dtype=torch.uint8)[torch.arange(9) % 3]
    images = colours[:, None, None, None].expand(-1, 3, 4, 4)
    real = ImageSet("colours", images, {"class": torch.arange(9) % 3}, {"class": ["a", "b", "c"]})
    scores = HeldOut.of(real, PixelJudge(), 4, samples=10).mean(Painter(order))
    assert scores["class accuracy"] == pytest.approx(accuracy)


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
    # AdaIN sets mean and deviation of each channel from the style: kernels do not reach them, style offsets do.
    hyper.style_head.linear.weight.data.zero_()
    before = [map.mean((0, 2, 3)) for map in source.synthesis.features(source.styles(z), maps)]
    for head in hyper.heads:
        torch.nn.init.normal_(head.kernel.weight)
    after = [map.mean((0, 2, 3)) for map in hyper.features(source.styles(z), hyper.modulation(labels), maps)]
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("rank", "finetune"), [(None, False), (2, True)])
def test_a_saved_hyper_generator_draws_as_before_over_its_source(source, critic, data, rank, finetune, tmp_path):
    save_weights(source.state_dict(), Card("base", "stylegan", SMALL.to_dict()), tmp_path, 32)
    method = build(
        source, critic, data, generator=HyperGenerator(source, 3, 5, rank, finetune=finetune, class_styles=finetune)
    )
    train(method, Budget(2), 6, **QUIET)
    hyper, labels = method.modules["generator"], torch.tensor([0, 1, 2, 1])
    card = Card("new", KIND, hyper_config("base", ["a", "b", "c"], 5, rank, finetune, finetune))
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


def test_the_shipped_generator_draws_six_classes_and_its_source():
    hyper = load_hypermod()
    assert hyper.class_names == list(TRANSFER_CLASSES)
    z = torch.randn(1, 64, generator=noise()).expand(6, -1)
    maps = [one.expand(6, -1, -1, -1) for one in hyper.synthesis.noise(1, noise(1))]
    pictures = hyper(z, torch.arange(6), maps)
    assert pictures.shape == (6, 3, 32, 32)
    apart = [(a - b).abs().mean().item() for k, a in enumerate(pictures) for b in pictures[k + 1 :]]
    assert min(apart) > 0.05, "classes differ"
    assert torch.equal(hyper(z, None, maps), load_expert("stylegan32")(z, maps))
