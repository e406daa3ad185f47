"""Every method of notebook 11 takes few pictures of one kind and draws; the shipped card holds what the page says."""

import pytest
import torch

from course_lib.data import target_classes
from course_lib.evaluation.scores import KERNEL
from course_lib.experts import fingerprint
from course_lib.profiles import Profile
from course_lib.recipes.recipe import Job
from course_lib.recipes.which_method import COPIES, MAIN, NAME, WAYS, Bench, contenders, mirrored, pack, unpack
from course_lib.training import Budget, load_card, load_weights, train


@pytest.fixture(scope="module")
def bench():
    return Bench()


@pytest.fixture(scope="module")
def few():
    return target_classes(names=["sprouts"], per_class=10).part("train")


@pytest.mark.parametrize("way", WAYS)
def test_a_method_learns_from_ten_pictures_and_leaves_the_sources_alone(bench, few, way):
    sources = [bench.stylegan.generator, bench.biggan.generator, bench.alae, bench.autoencoder]
    before = [fingerprint(one) for one in sources]
    method, draw = bench.build(way, few, 0)
    begin = next(iter(method.modules.values()))
    assert method.length >= 20  # mirror images, too
    weights = fingerprint(begin)
    train(method, Budget(2), 8, progress=False, checkpoint_every=0, preview_every=0)
    assert fingerprint(begin) != weights
    with torch.no_grad():
        one, same, other = (draw(begin.eval(), 3, seed) for seed in (0, 0, 1))
    assert one.shape == (3, 3, 64, 64) and one.abs().max() <= 1 and one.device.type == "cpu"
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert [fingerprint(source) for source in sources] == before


def test_the_same_seed_begins_at_the_same_weights(bench, few):
    for way in ("Net2Net", "Mind2Mind, autoencoder", "hyper-modulation, ours"):
        first, again, other = (fingerprint(next(iter(bench.build(way, few, s)[0].modules.values()))) for s in (0, 0, 1))
        assert first == again != other


def test_mirror_images_stand_behind_the_pictures(few):
    both = mirrored(few)
    assert len(both) == 20 and torch.equal(both.images[10:], few.images.flip(-1)) and len(both.labels["class"]) == 20


def test_strips_are_small_and_come_back(few):
    pictures = few.batch(torch.arange(6))
    content = pack(pictures)
    found = unpack(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    assert len(content) < 12_000 and found.shape == pictures.shape
    assert (found - pictures).abs().mean() < 0.05


def test_runs_have_names_of_their_own_and_the_main_ones_all_panels():
    lines = contenders(None, Job(Profile("cpu")), {}, seeds=2)
    names = [one.name for one in lines]
    assert len(set(names)) == len(names) == len(WAYS) + 3 * len(MAIN)
    assert all(one.seeds == (2 if one.name in WAYS else 1) for one in lines)


def test_the_shipped_comparison_shows_what_the_notebook_says():
    card, (strips, _) = load_card(NAME), load_weights(NAME)

    def last(way, end="", score=KERNEL):
        return card.metrics[f"{way}{end}: {score}"]

    mind, propagation, hyper, flow, tuned, scratch = MAIN
    for end in ("", ", 10 pictures", ", 200 pictures", ", planets"):
        assert all(len(strips[f"strips/{way}{end}: {stop}"]) for way in MAIN for stop in range(3))
        assert max(last(mind, end), last(propagation, end)) < min(last(way, end) for way in (hyper, tuned, scratch))
        assert last(tuned, end) < last(hyper, end) < last(scratch, end) or end == ", planets"
    assert last(mind) < last(propagation) and last(mind, ", 10 pictures", COPIES) > 0.4
    first, *later = card.curve[f"{flow}: {KERNEL}"]
    assert first < min(later) and first < min(card.curve[f"{way}: {KERNEL}"][0] for way in WAYS if way != flow)
    assert last("Mind2Mind, ALAE") > card.metrics[f"decoded by the ALAE, critters: {KERNEL}"] > 1
    assert last("propagation, BN stage") > last(propagation) and last("hyper-modulation") > last(hyper)
