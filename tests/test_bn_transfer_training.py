"""Training on new classes: the published step, what is resumed, ranks, data, several devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from course_lib.bn_transfer import (
    HeldOut,
    Kit,
    Ranks,
    TransferMethod,
    TransferSettings,
    learn_classes,
    load_bn_transfer,
    make_networks,
    new_classes,
    old_pictures,
    picture_codes,
    run_transfer,
    set_stage,
    similar_mixtures,
)
from course_lib.bn_transfer.shipped import KIND, new_tensors, transfer_config
from course_lib.data import NEW_SUBGROUPS, ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.experts import fingerprint
from course_lib.gans import BigGANConfig, Discriminator, Generator
from course_lib.gans.class_norm import ClassNorm, OutputNorm, synchronise
from course_lib.paths import CHECKPOINTS
from course_lib.training import Budget, Card, save_weights, train

CONFIG = BigGANConfig(7, (16, 16, 8, 8), (8, 8, 16, 16), 3, 16, 6, (16,))
NEW = 3
QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count=24):
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=noise())
    names = ["cat-face", "heart", "time"]
    return ImageSet("tiny", images, {"class": torch.arange(count) % NEW}, {"class": names})


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return Generator(CONFIG).eval(), Discriminator(CONFIG).eval()


def made(networks, method="propagation", start="mixture", **options):
    settings = TransferSettings(method, start, batch_size=6, options=options)
    mixtures = torch.rand(NEW, 7, generator=noise(2)).softmax(1)
    return *make_networks(*networks, settings, mixtures), settings


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_is_the_critic_then_the_generator_and_asks_for_every_class(networks, steps):
    generator, critic, settings = made(networks, critic_steps=steps)
    method = TransferMethod(pictures(), "class", generator, critic, **settings.options)
    asked = []
    hook = generator.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1].argmax(1)))
    before = {name: fingerprint(module) for name, module in method.modules.items()}
    train(method, Budget(1), 6, **QUIET)
    hook.remove()
    assert len(asked) == steps + 1 and all(len(labels) == 6 for labels in asked)
    assert all(fingerprint(module) != before[name] for name, module in method.modules.items())
    data = pictures()
    data = data.subset(data.labels["class"] == 0)  # a set of one class: generated pictures are of all
    method = TransferMethod(data, "class", generator, critic)
    assert method._ask(300, noise())[1].bincount().min() > 70


def test_accumulated_chunks_give_one_step_each_and_one_pass_of_the_generator_for_both(networks):
    """Published at 128 pixels: eight chunks, one step of each network, sixteen passes of the generator."""
    generator, critic, _ = made(networks)
    method = TransferMethod(pictures(), "class", generator, critic)
    passes, steps = [], []
    generator.register_forward_hook(lambda *_: passes.append(1))
    for name, optimizer in method.optimizers.items():
        optimizer.register_step_post_hook(lambda *_, name=name: steps.append(name))
    history = train(method, Budget(1), 3, accumulate=8, **QUIET)
    assert len(passes) == 16 and steps == ["critic", "generator"] and history.steps == 1


def test_the_penalty_is_part_of_the_loss_whatever_the_accumulation(networks):
    generator, critic, _ = made(networks)
    method = TransferMethod(pictures(), "class", generator, critic, l1=3.0, l2=5.0)
    losses = list(method.losses(method.batch(torch.arange(6), noise()), noise(), 0))
    last = losses[-1]
    assert last.scalars["penalty"] > 0
    assert last.value.item() == pytest.approx((last.scalars["score"] + last.scalars["penalty"]).item(), rel=1e-4)


def test_statistics_are_synchronised_where_it_is_asked_for(networks):
    for on in (False, True):
        generator, critic, _ = made(networks)
        TransferMethod(pictures(), "class", generator, critic, synchronised=on)
        flags = {m.synchronised for m in generator.target.modules() if hasattr(m, "synchronised")}
        assert flags == {on}


def test_networks_of_another_number_of_classes_are_refused(networks):
    generator, critic, _ = made(networks)
    with pytest.raises(CourseError, match="classes=2"):
        data = pictures()
        two = ImageSet("two", data.images, {"class": data.labels["class"] % 2}, {"class": ["a", "b"]})
        TransferMethod(two, "class", generator, critic)
    with pytest.raises(CourseError, match="method"):
        TransferSettings("distillation")
    with pytest.raises(CourseError, match="mixture"):
        TransferSettings(start="nearest")


# --- baselines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["mixture", "random"])
@pytest.mark.parametrize("method", ["propagation", "free", "fine-tuning", "scratch"])
def test_every_method_trains_from_the_same_critic(networks, method, start):
    generator, critic, settings = made(networks, method, start)
    trunk = {name: t for name, t in networks[1].state_dict().items() if "embed" not in name}
    assert all(torch.equal(t, trunk[name]) for name, t in critic.state_dict().items() if name in trunk)
    z, labels = torch.randn(NEW, 16), torch.arange(NEW)
    with torch.no_grad():
        first = generator.eval()(z, generator.embed(labels))
        mixed = torch.rand(NEW, 7, generator=noise(2)).softmax(1) @ networks[0].shared.weight
        expected = networks[0](z, mixed)
    same = start == "mixture" and method != "scratch"
    assert torch.allclose(first, expected, atol=1e-4) == same
    found = run_transfer(pictures(), generator, critic, settings, 2)
    assert found.history.steps == 2 and not found.generator.training
    assert not torch.equal(found.generator(z, found.generator.embed(labels)), first)


def test_free_parameters_at_random_know_nothing_of_old_classes(networks):
    generator, _, _ = made(networks, "free", "random")
    assert all(not part.mixtures().any() and part.residual.weight.any() for part in generator.propagations())


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_its_counters_and_the_learning_rates_of_the_call(networks, tmp_path):
    seen = {}

    def run(steps, rate, folder):
        generator, critic, settings = made(networks, rate=rate, critic_rate=rate, own_rate=3.0)
        method = TransferMethod(pictures(), "class", generator, critic, **settings.options)
        optimizer = method.optimizers["generator"]
        optimizer.register_step_post_hook(
            lambda one, *_: seen.setdefault(rate, [group["lr"] for group in one.param_groups])
        )
        history = train(method, Budget(steps), 6, folder=folder, resume=True, log_every=1, **QUIET)
        counters = {int(state["step"]) for state in optimizer.state.values()}
        return history, counters, fingerprint(generator)

    history, counters, _ = run(2, 1e-3, tmp_path)
    assert history.curve["step"] == [1, 2] and counters == {2} and seen[1e-3] == pytest.approx([1e-3, 3e-3])
    history, counters, _ = run(4, 1e-4, tmp_path)
    assert history.curve["step"] == [1, 2, 3, 4] and counters == {4} and seen[1e-4] == pytest.approx([1e-4, 3e-4])


def test_scores_on_the_way_change_nothing(networks):
    class Once:
        calls = 0

        def score(self, generator):
            self.calls += 1
            torch.randn(5)
            return type("Scores", (), {"class_frechet": 1.0 / self.calls, "frechet": 1.0})()

    plain = run_transfer(pictures(), *made(networks), 4)
    held = Once()
    scored = run_transfer(pictures(), *made(networks), 4, held=held, score_every=1)
    assert list(scored.scores) == [0, 1, 2, 3, 4] and held.calls == 5
    assert fingerprint(scored.generator) == fingerprint(plain.generator)
    averaged = run_transfer(pictures(), *made(networks, decay=0.5), 2)
    assert fingerprint(averaged.generator) != fingerprint(run_transfer(pictures(), *made(networks), 2).generator)


def test_the_second_stage_leaves_the_first_ones_mixtures_and_old_classes(networks):
    generator, critic, settings = made(networks)
    run_transfer(pictures(), generator, critic, settings, 2)
    mixtures = [part.mixtures() for part in generator.propagations()]
    kept = fingerprint(generator.source)
    set_stage(generator, "ft")
    first = generator.target.linear.weight.clone()
    run_transfer(pictures(), generator, critic, settings, 2)
    assert all(torch.equal(part.mixtures(), old) for part, old in zip(generator.propagations(), mixtures, strict=True))
    assert fingerprint(generator.source) == kept and not torch.equal(generator.target.linear.weight, first)


def test_ranks_are_ranks(tmp_path):
    ranks = Ranks(tmp_path, keep=2)
    assert [ranks.add(s, v, {"w": torch.tensor([float(s)])}) for s, v in ((10, 3.0), (20, 1.0), (30, 2.0))] == [1, 1, 2]
    assert ranks.add(40, 9.0, {"w": torch.zeros(1)}) is None
    again = Ranks(tmp_path, keep=2)
    assert [entry["step"] for entry in again.entries] == [20, 30]
    assert again.load(1)["w"].item() == 20 and again.load(2)["w"].item() == 30
    assert again.add(20, 5.0, {"w": torch.tensor([21.0])}) == 2 and again.load(2)["w"].item() == 21
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        f"generator-0000{s}.safetensors" for s in (20, 30)
    ]
    with pytest.raises(CourseError, match="rank 3"):
        again.load(3)


# --- data and scores --------------------------------------------------------------------------------------------------


def test_new_classes_of_the_emoji_are_the_held_out_ones():
    data = new_classes(per_class=5)
    assert data.classes["class"] == list(NEW_SUBGROUPS)
    train_part = data.part("train")
    assert train_part.labels["class"].bincount().tolist() == [5] * 20
    whole = new_classes()
    for part in ("val", "test"):
        assert len(data.part(part)) == len(whole.part(part)) > 100
    old = old_pictures(["monkey-face", "flag"], 4)
    assert old.classes["class"] == ["monkey-face", "flag"] and old.labels["class"].bincount().tolist() == [4, 4]


def test_new_classes_of_a_folder(tmp_path):
    for name, count in (("cups", 20), ("arrows", 3)):
        (tmp_path / name).mkdir()
        for index in range(count):
            Image.new("RGB", (40, 40), (10 * index, 0, 99)).save(tmp_path / name / f"{index}.png")
    data = new_classes(f"folder:{tmp_path}", per_class=4)
    assert data.classes["class"] == ["arrows", "cups"] and data.size == 64
    assert data.part("train").labels["class"].bincount().tolist() == [3, 4]
    assert data.part("val").labels["class"].tolist() == [1, 1] == data.part("test").labels["class"].tolist()
    (tmp_path / "test").mkdir()
    (tmp_path / "train").mkdir()
    for name in ("cups", "arrows"):
        (tmp_path / name).rename(tmp_path / ("test" if name == "cups" else "train") / name)
    with pytest.raises(CourseError, match="'cups' has no training picture"):
        new_classes(f"folder:{tmp_path}")


def test_mixtures_come_from_the_pictures(networks):
    data = pictures()
    old = ImageSet("old", data.images, {"class": data.labels["class"]}, {"class": ["x", "y", "z"]})
    found = similar_mixtures(data, old, lambda x: F.avg_pool2d(x, 8).flatten(1), ridge=0.0)
    assert torch.allclose(found, torch.eye(3), atol=1e-2)


def test_real_pictures_score_better_than_those_of_another_class():
    data = new_classes()
    held = HeldOut(data.part("test"), Judge.load())
    val = data.part("val")
    real = torch.cat(list(val.batches(250, 32)))
    right = held.compare(real, val.labels["class"])
    wrong = held.compare(real, (val.labels["class"] + 7) % 20)
    assert right.kernel < 0.8 * wrong.kernel and right.accuracy > 0.2 > 0.1 > wrong.accuracy
    assert right.frechet == pytest.approx(wrong.frechet)
    assert set(right.by_class) < set(NEW_SUBGROUPS) and len(right.by_class) > 15
    unknown = ImageSet(data.name, val.images, val.labels, val.classes | {"class": [f"c{k}" for k in range(20)]})
    assert HeldOut(unknown, held.judge).compare(real, val.labels["class"]).accuracy != 0.0


# --- codes, the shipped form, one call -------------------------------------------------------------------------------


def test_codes_are_part_of_the_generators_loss(networks):
    codes = torch.randn(2, 24, 16, generator=noise(4))
    generator, critic, _ = made(networks)
    method = TransferMethod(pictures(), "class", generator, critic, codes=codes, reconstruction=2.0, l1=0.0, l2=0.0)
    *_, last = method.losses(method.batch(torch.arange(8), noise()), noise(), 0)
    expected = last.scalars["score"] + 2.0 * last.scalars["reconstruction"]
    assert last.value.item() == pytest.approx(expected.item(), rel=1e-5) and last.scalars["reconstruction"] > 0
    images, z, labels = method._known(80, noise(5))
    assert len(images) == len(z) == len(labels) == 20
    flat, both = images.flatten(1), torch.cat([method.images, method.images.flip(-1)]).flatten(1)
    index = torch.cdist(flat, both).argmin(1)
    assert torch.equal(flat, both[index]) and torch.equal(labels, method.labels.repeat(2)[index])
    clean = codes.flatten(0, 1)[index]
    assert torch.allclose((z * clean).sum(1) / clean.square().sum(1), torch.full((20,), 0.954), atol=0.35)
    with pytest.raises(CourseError, match="codes"):
        TransferMethod(pictures(), "class", generator, critic, codes=codes[:, 1:])


@pytest.fixture(scope="module")
def kit():
    return Kit(per_class=4)


def test_codes_of_a_kit_are_those_that_its_generator_learned_to_draw(kit):
    """Old pictures come back from their codes better than from noise, though the critic has loosened that bond."""
    names = ["animal-mammal", "food-vegetable", "transport-ground"]
    data = old_pictures(names)
    codes = picture_codes(kit.autoencoder, data, kit.space)
    labels = torch.tensor([kit.old_names.index(name) for name in names])[data.labels["class"]]
    real = torch.cat(list(data.batches(250, 32)))
    with torch.no_grad():
        embedded = kit.source.embed(labels)
        plain, mirrored = (kit.source(z, embedded) for z in codes)
        chance = (kit.source(torch.randn(codes[0].shape, generator=noise(1)), embedded) - real).abs().mean()
    assert (plain - real).abs().mean() < 0.95 * chance and (mirrored - real.flip(-1)).abs().mean() < 0.95 * chance


def test_fewer_old_classes_draw_the_same(kit):
    fewer = kit.with_old(5, seed=1)
    assert len(fewer.old_names) == fewer.source.config.classes == fewer.critic.config.classes == 5
    z, labels = torch.randn(5, 64, generator=noise()), torch.arange(5)
    old = torch.tensor([kit.old_names.index(name) for name in fewer.old_names])
    assert torch.equal(fewer.source(z, fewer.source.embed(labels)), kit.source(z, kit.source.embed(old)))
    assert fewer.old.classes["class"] == fewer.old_names and kit.source.config.classes == 75
    with pytest.raises(CourseError, match="75"):
        kit.with_old(76)


def test_own_folders_in_one_call_and_back_from_a_file(kit, tmp_path):
    for name, shade in (("cups", 40), ("arrows", 200)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(6):
            Image.new("RGB", (40, 40), (shade, 9 * index, 99)).save(tmp_path / "data" / name / f"{index}.png")
    settings = TransferSettings(batch_size=4, options={"reconstruction": 1.0})
    for ft_steps in (0, 1):
        found = learn_classes(f"folder:{tmp_path / 'data'}", 1, ft_steps, settings=settings, kit=kit).generator
        assert found.class_names == ["arrows", "cups"] and found.shared == (ft_steps == 0)
        card = Card("own", KIND, transfer_config(found, "biggan32", found.class_names))
        path = save_weights(new_tensors(found), card, tmp_path, bits=32)
        assert path.stat().st_size < (1_000_000 if found.shared else 4_000_000)
        for file in ("biggan32.json", "biggan32.safetensors"):
            (tmp_path / file).write_bytes((CHECKPOINTS / file).read_bytes())
        again = load_bn_transfer("own", folder=tmp_path)
        z, labels = torch.randn(4, 64, generator=noise()), torch.tensor([0, 1, 1, 0])
        assert torch.equal(again(z, again.embed(labels)), found(z, found.embed(labels)))
        assert torch.equal(again.old(z, labels), kit.source(z, kit.source.embed(labels)))
        assert again.old_names == kit.old_names and not again.training
    with pytest.raises(CourseError, match="not a transferred biggan"):
        load_bn_transfer("biggan32")


# --- several devices --------------------------------------------------------------------------------------------------


def norms_on(x, labels, rank=None):
    """Outputs, gradients and running statistics of both batch norms on a batch."""
    torch.manual_seed(5)
    first, last = synchronise(ClassNorm(4, None, 3).train()), synchronise(OutputNorm(4).train())
    x = x.clone().requires_grad_()
    y = last(first(x, labels))
    (y * torch.linspace(-1, 1, y.shape[2])).square().sum().backward()
    stored = torch.cat([first.stored_mean, first.stored_var, last.stored_mean, last.stored_var])
    return {"y": y, "x": x.grad, "gain": last.gain.grad, "table": first.gain.weight.grad, "stored": stored}


def batch():
    return 2 + 3 * torch.randn(6, 4, 5, 5, generator=noise(7)), torch.tensor([0, 1, 2, 2, 1, 0])


def two_processes(out):
    """Under ``torchrun``: each process has a part of the batch, of another size."""
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    own = slice(0, 2) if rank == 0 else slice(2, 6)
    x, labels = batch()
    found = norms_on(x[own], labels[own])
    (out / f"{rank}.json").write_text(json.dumps({name: t.tolist() for name, t in found.items()}))
    torch.distributed.destroy_process_group()


def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(tmp_path):
    expected = {name: t.detach() for name, t in norms_on(*batch()).items()}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([*command, __file__, str(tmp_path)], check=True, env=environment, timeout=300, capture_output=True)
    first, second = (
        {name: torch.tensor(t) for name, t in json.loads((tmp_path / f"{rank}.json").read_text()).items()}
        for rank in (0, 1)
    )
    for name in ("y", "x"):
        assert torch.allclose(torch.cat([first[name], second[name]]), expected[name], atol=1e-5), name
    for name in ("gain", "table"):  # each process has its part of the sum; DDP adds them up
        assert torch.allclose(first[name] + second[name], expected[name], rtol=1e-4, atol=1e-4), name
    for one in (first, second):
        assert torch.allclose(one["stored"], expected["stored"], atol=1e-6)


if __name__ == "__main__":
    two_processes(Path(sys.argv[1]))
