"""A class-conditional generator as target: what is one flow target, how pairs come about, what a step draws."""

import pytest
import torch

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.data import OLD_KINDS
from course_lib.data.people import ATTRIBUTES
from course_lib.errors import CourseError
from course_lib.experts import (
    BlackBox,
    Classifier,
    ClassifierConfig,
    LabelExpert,
    TargetExpert,
    export_decoder,
    fingerprint,
    freeze,
)
from course_lib.gans.biggan import BigGANConfig, Generator
from course_lib.training import Budget, train
from course_lib.translation.text import (
    KIND_PHRASES,
    CaptionSource,
    CaptionStage,
    GanMethod,
    GanTarget,
    generate_pairs,
    start_dequantiser,
)


@pytest.fixture(scope="module")
def target():
    torch.manual_seed(0)
    config = BigGANConfig(5, (8, 8, 8), (8, 8), 2, noise=6, embedding=4, attention=())
    return GanTarget(freeze(Generator(config)))


@pytest.fixture(scope="module")
def stage():
    """A classifier with random weights: it recognises something, always the same in the same picture."""
    torch.manual_seed(2)
    heads = {"kind": 4, **{name: len(values) for name, values in ATTRIBUTES.items()}}
    kinds = ["personas", "micah", "clay", "stack"]
    return CaptionStage(freeze(Classifier(ClassifierConfig(heads, width=8))), kinds, kinds)


def test_noise_comes_first_and_the_embedding_second(target):
    z, labels = torch.randn(5, 6), torch.arange(5)
    latent = torch.cat([z, target.classes], 1)
    assert target.latent_dim == 10 and isinstance(target, TargetExpert)
    expected = target.generator(z, target.generator.embed(labels))
    assert torch.equal(target.decode(latent), expected) and not target.decode(latent).requires_grad
    assert expected.std(0).mean() > 1e-3, "classes differ, so the order of the two parts matters"


def test_rounding_renders_the_nearest_class(target):
    z, labels = torch.randn(5, 6), torch.arange(5)
    near = target.classes + 1e-3 * torch.randn(5, 4)
    rounded = GanTarget(target.generator, rounded=True)
    exact = target.decode(torch.cat([z, target.classes[labels]], 1))
    latent = torch.cat([z, near], 1)
    assert torch.equal(rounded.decode(latent), exact) and not torch.equal(target.decode(latent), exact)


def test_what_a_gan_target_refuses(target):
    with pytest.raises(CourseError, match=r"\(B, 10\)"):
        target.decode(torch.zeros(2, 9))
    with pytest.raises(CourseError, match="generate_pairs"):
        target.encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(CourseError, match="no class embeddings"):
        GanTarget(Generator(BigGANConfig(3, (8, 8), (8, 8), 1, noise=4, embedding=None, attention=())))


def test_captions_name_what_was_recognised(stage):
    draws = torch.Generator().manual_seed(0)
    person = {"kind": "micah", "skin": "tan", "hair": "red", "cut": "long", "glasses": "no", "mouth": "sad"}
    said = [stage.caption(person, draws) for _ in range(60)]
    assert all(named.items() <= person.items() for _, named in said)
    assert all(text.endswith(", ink style") for text, _ in said)
    assert len({text for text, _ in said}) > 20 and {len(named) for _, named in said} == {2, 3, 4, 5, 6}
    new = {stage.caption(person, draws, new=True)[0] for _ in range(20)}
    assert len(new) == 2 and not new & {text for text, _ in said}
    things = {stage.caption({"kind": "clay"}, draws)[0] for _ in range(20)}
    assert len(things) > 4 and all(text.endswith(KIND_PHRASES["clay"][:-1]) for text in things)
    text, named = stage.caption({"kind": "clay"}, draws, new=True)
    assert text.endswith(KIND_PHRASES["clay"][-1]) and named == {"kind": "clay"}
    beliefs = stage.beliefs([person, {"kind": "clay"}])
    assert torch.equal(
        beliefs[:1],
        stage.labels.join(
            {"kind": torch.tensor([1])}
            | {name: torch.tensor([list(v).index(person[name])]) for name, v in ATTRIBUTES.items()}
        ),
    )
    assert beliefs[1].sum() == 1 and beliefs[1, 2] == 1


def test_every_old_kind_that_is_no_person_can_be_called_something():
    assert set(KIND_PHRASES) == set(OLD_KINDS)
    assert len({phrase for phrases in KIND_PHRASES.values() for phrase in phrases}) == 3 * len(OLD_KINDS)


def test_pairs_belong_together(target, stage):
    before = fingerprint(target.generator)
    pairs, last = generate_pairs(target, stage, 300, [1, 0, 1, 0, 2], seed=3)
    assert len(pairs) == 300 and last.shape == (50, 3, 16, 16)
    counts = torch.bincount(pairs.label, minlength=5)
    assert counts[1] == counts[3] == 0 and counts[4] > 1.4 * counts[0]
    # Whoever renders the clean embedding again recognises the same thing.
    again = target.decode(torch.cat([pairs.z, target.classes[pairs.label]], 1))
    assert stage.recognise(again) == [pairs.things[k] for k in pairs.thing.tolist()]
    assert torch.equal(again[-50:], last) and fingerprint(target.generator) == before
    same, _ = generate_pairs(target, stage, 300, torch.tensor([1, 0, 1, 0, 2]), seed=3)
    assert torch.equal(same.z, pairs.z)


@pytest.fixture(scope="module")
def dequantiser(target):
    return freeze(start_dequantiser(target.classes))


def test_latents_keep_the_noise_and_move_the_embedding(target, stage, dequantiser):
    pairs, _ = generate_pairs(target, stage, 40, [1] * 5)
    first = pairs.latents(target, dequantiser, torch.Generator().manual_seed(0))
    second = pairs.latents(target, dequantiser, torch.Generator().manual_seed(1))
    assert torch.equal(first[:, :6], pairs.z) and torch.equal(second[:, :6], pairs.z)
    assert (first[:, 6:] != second[:, 6:]).any(1).all()


def test_a_step_draws_fresh_neighbours_and_training_moves_the_flow_alone(target, stage, dequantiser):
    pairs, _ = generate_pairs(target, stage, 60, [1] * 5)
    table = torch.randn(len(pairs.things), 2, 3)
    source = CaptionSource(None, torch.zeros(4), torch.zeros(4, 3), torch.zeros(3), LabelExpert({"kind": 3}))
    flow = ConditionalFlow(FlowConfig(10, (3,), hidden_dim=8, blocks=2), torch.Generator().manual_seed(0))
    held = pairs.subset(torch.arange(10))
    method = GanMethod(pairs, target, dequantiser, table, source, flow, held=held)
    method.held_every = 2
    index = torch.tensor([7, 7])
    first, _ = method.batch(index, torch.Generator().manual_seed(0))
    assert torch.equal(first[:, :6], pairs.z[index]) and (first[0, 6:] != first[1, 6:]).any()
    latent, condition = method.batch(torch.arange(50), torch.Generator().manual_seed(0))
    assert latent.shape == (50, 10) and condition.shape == (50, 3)
    before = fingerprint(dequantiser), fingerprint(target.generator), fingerprint(flow)
    train(method, Budget(2), 20, progress=False, checkpoint_every=0, preview_every=0, log_every=2)
    after = fingerprint(dequantiser), fingerprint(target.generator), fingerprint(flow)
    assert after[:2] == before[:2] and after[2] != before[2]


def test_a_gan_behind_onnx_runtime_draws_the_same(target, tmp_path):
    box = BlackBox(export_decoder(target, tmp_path / "gan.onnx"))
    latent = torch.randn(3, 10)
    assert box.latent_dim == 10
    torch.testing.assert_close(box.decode(latent), target.decode(latent), rtol=0, atol=1e-4)
