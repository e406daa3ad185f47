"""Labels as conditions: what a label-conditioned translator must satisfy, its edits and its scores."""

import pytest
import torch
from PIL import Image, ImageDraw

from course_lib.data import ImageSet, load, load_people
from course_lib.data.people import ATTRIBUTES
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.evaluation.domain_scores import PairedPictures, directions, flip_attribute, score_edit
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, LabelExpert, freeze
from course_lib.translation import Pairs
from course_lib.translation.domains import (
    DomainTranslator,
    LabelMethod,
    LinearStart,
    adapt_autoencoder,
    encode_labelled,
    fit_domains,
    label_flow,
    own_domains,
    people_expert,
    reconstruction_psnr,
    withhold,
)

QUIET = {"log_every": 10, "checkpoint_every": 0, "preview_every": 0, "progress": False}
CLASSES = {"style": ["a", "b", "c"], "hair": ["red", "blue"]}
SMALL = {"hidden_dim": 8, "blocks": 2}


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    return freeze(GridAutoencoder(GridAutoencoderConfig(16, 4, (8, 16), (8, 16))))


def toy_pairs(expert, dim, count=300):
    """Latents that are a mean for each combination of style and hair, plus content; the mean depends on both."""
    g = torch.Generator().manual_seed(0)
    labels = {"style": torch.randint(3, (count,), generator=g), "hair": torch.randint(2, (count,), generator=g)}
    means, content = 3 * torch.randn(3, 2, dim, generator=g), torch.randn(count, dim, generator=g)
    latent = means[labels["style"], labels["hair"]] + content
    return Pairs(expert.join(labels), latent, torch.full_like(latent, 0.01)), labels, means


def expert_of_both():
    return LabelExpert({"style": 3, "hair": 2}, [("style", "hair")])


def started(flow, pairs, expert):
    with torch.no_grad():
        flow.train()
        flow(pairs.mean, expert.cross(pairs.condition))
    return flow.eval()


def pictures(count=40, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), generator=g, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    return ImageSet("toy", images, {"domain": labels}, {"domain": ["a", "b"]})


def test_the_domain_is_never_left_open_and_four_of_ten_rows_are_complete():
    expert = people_expert(load_people().classes)
    joined = expert.join({name: torch.zeros(4000, dtype=torch.int64) for name in expert.slices})
    opened = withhold(joined, expert, torch.Generator().manual_seed(0))
    assert torch.equal(opened[:, expert.slices["style"]], joined[:, expert.slices["style"]])
    named = opened.sum(1) - 1
    assert 0.4 < (named == 5).float().mean() < 0.56 and set(named.tolist()) == {0, 1, 2, 3, 4, 5}
    assert torch.equal(opened, withhold(joined, expert, torch.Generator().manual_seed(0)))


def test_a_flow_starts_at_the_mean_of_each_combination(autoencoder):
    expert = expert_of_both()
    pairs, labels, means = toy_pairs(expert, autoencoder.latent_dim)
    flow = label_flow(pairs, autoencoder, expert, gain=0.0, **SMALL)
    flow.fit_shift(pairs.mean, expert.cross(pairs.condition))
    translator = DomainTranslator(CLASSES, started(flow, pairs, expert), autoencoder, expert)
    other = {"style": (labels["style"] + 1) % 3, "hair": 1 - labels["hair"]}
    moved = translator.move(pairs.mean, labels, other)
    change = means[other["style"], other["hair"]] - means[labels["style"], labels["hair"]]
    assert (moved - pairs.mean - change).abs().mean() < 0.15
    assert torch.allclose(translator.move(moved, other, labels), pairs.mean, atol=1e-3)
    start = DomainTranslator(CLASSES, LinearStart(flow), autoencoder, expert)
    assert torch.allclose(start.move(pairs.mean, labels, other), moved, atol=0.05), "the blocks are the identity"


def test_training_leaves_labels_open_and_logs_the_likelihood(autoencoder):
    expert = expert_of_both()
    pairs, _, _ = toy_pairs(expert, autoencoder.latent_dim)
    flow = label_flow(pairs, autoencoder, expert, **SMALL)
    method = LabelMethod(pairs, flow, expert)
    _, condition = method.batch(torch.arange(200), torch.Generator().manual_seed(0))
    hair = condition[:, expert.slices["hair"]].sum(1)
    assert 0.1 < (hair == 0).float().mean() < 0.6 and (condition[:, expert.slices["style"]].sum(1) == 1).all()
    assert torch.equal(condition[:, 5:].sum(1), hair), "what is open has no product either"
    [loss] = method.losses(method.batch(torch.arange(64), torch.Generator()), torch.Generator(), 0)
    assert loss.value.isfinite() and "nll" in loss.scalars
    alone = LabelMethod(pairs, flow, LabelExpert({"style": 3}))
    assert alone.expert.condition_shape == (3,)


def test_training_keeps_the_linear_start_and_ends_with_a_residual_shift(autoencoder):
    expert = LabelExpert({"domain": 2})
    domain, g = torch.arange(200) % 2, torch.Generator().manual_seed(0)
    latent = torch.randn(200, autoencoder.latent_dim, generator=g) + domain[:, None]
    pairs = Pairs(expert.join({"domain": domain}), latent, torch.full_like(latent, 0.2))
    start = label_flow(pairs, autoencoder, expert, **SMALL)
    translator, _ = fit_domains(pairs, {"domain": ["a", "b"]}, autoencoder, 3, sizes=SMALL, **QUIET)
    flow = translator.flow
    assert torch.equal(flow.shift.linear.weight, start.shift.linear.weight) and flow.residual_shift is not None
    # A flow whose start is forgotten leaves the domain in v; the last fit alone finds it.
    with torch.no_grad():
        flow.shift.linear.weight.zero_()
    LabelMethod(pairs, flow, expert).fit_residual_shift(flow)
    v = flow.encode(pairs.mean, pairs.condition)
    assert (v[domain == 0].mean(0) - v[domain == 1].mean(0)).norm() < 0.3 < latent.shape[1] ** 0.5


def test_edits_exchange_labels_and_keep_the_rest(autoencoder):
    expert = expert_of_both()
    pairs, _, _ = toy_pairs(expert, autoencoder.latent_dim)
    flow = started(label_flow(pairs, autoencoder, expert, gain=1.0, **SMALL), pairs, expert)

    class Reads:
        def __call__(self, x):
            return {"hair": torch.tensor([[0.0, 1.0]]).expand(len(x), -1)}

    translator = DomainTranslator(CLASSES, flow, autoencoder, expert, Reads())
    y, domain = torch.rand(5, 3, 16, 16) * 2 - 1, torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(translator.labels(y, domain)["hair"], torch.ones(5, dtype=torch.int64))
    same = translator.edit(y, domain, {})
    assert torch.allclose(same, autoencoder.decode(autoencoder.encode(y)), atol=1e-3)
    red = translator.edit(y, domain, {"hair": torch.zeros(5, dtype=torch.int64)})
    assert (red - same).abs().max() > 1e-3
    table = translator.under_every_label(y, domain)
    assert table.shape == (5, 3, 3, 16, 16)
    assert torch.allclose(table[torch.arange(5), domain], same, atol=1e-3)
    way = translator.path(y[0], 0, 2, 4, {"hair": 0})
    assert torch.allclose(way[0], same[0], atol=1e-3)
    with pytest.raises(CourseError, match="eyes"):
        translator.edit(y, domain, {"eyes": domain})
    samples = translator.vary(y[0], 0, 2, 0.0)
    assert torch.allclose(samples, table[:1].expand(2, -1, -1, -1, -1), atol=1e-3)
    with pytest.raises(CourseError, match="between 0"):
        translator.vary(y[0], 0, 2, 1.5)


def test_fitting_names_a_domain_with_too_few_pictures(autoencoder):
    expert = LabelExpert({"domain": 2})
    joined = expert.join({"domain": torch.tensor([0] * 20 + [1] * 3)})
    pairs = Pairs(joined, torch.randn(23, autoencoder.latent_dim), torch.ones(23, autoencoder.latent_dim))
    with pytest.raises(CourseError, match="b 3"):
        fit_domains(pairs, {"domain": ["a", "b"]}, autoencoder, 1)


@pytest.fixture(scope="module")
def some_people():
    data = load_people().part("val")
    chosen = torch.arange(len(data) // 6)[::16]
    count = len(data) // 6
    return data.subset(torch.cat([chosen + k * count for k in range(6)]))


def test_true_counterparts_score_perfectly_and_the_untranslated_do_not(some_people):
    judge = Judge.load()
    paired = PairedPictures(some_people, judge, lambda x: x.flatten(1), most=8)

    def of(scores, word):
        return [value for name, value in scores.items() if word in name]

    truth = paired.score(paired.pictures[4], 4)
    assert truth["style accuracy"] == 1 and min(of(truth, "agrees")) > 0.85 and min(of(truth, "found")) == 1
    still = paired.score(paired.pictures[0], 4)
    assert still["style accuracy"] == 0 and min(of(still, "agrees")) > 0.85 and still["found by pixels"] < 0.9
    wrong = paired.score(paired.pictures[4].roll(1, 0), 4)
    assert wrong["style accuracy"] == 1 and max(of(wrong, "found")) < 0.5
    assert len(directions(6)) == 30
    with pytest.raises(CourseError, match="same people"):
        PairedPictures(some_people.subset(torch.arange(len(some_people) - 1)), judge, lambda x: x.flatten(1))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_flip_is_drawn_exactly_and_scores_perfectly(some_people, name):
    judge, one = Judge.load(), flip_attribute(some_people, name, 12)
    assert (one.values != some_people.labels[name][one.rows]).all()
    best, still = (
        score_edit(one.truth, one, some_people, judge),
        score_edit(some_people.batch(one.rows), one, some_people, judge),
    )
    assert best.error == 0 and best.before > 0.01 and best.changed > 0.85 and best.kept > 0.9
    assert still.changed < 0.2 and still.error == pytest.approx(best.before)
    if name in ("hair", "cut"):
        assert (some_people.labels["cut"][one.rows] != 0).all() and (one.values != 0).all()


def write_folder(root, counts, size=(40, 24)):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            picture = Image.new("RGB", size, "white")
            box = [4, 4, 12 + k % 8, 18]
            ImageDraw.Draw(picture).ellipse(box, "orange" if name == "a" else None, "black")
            picture.save(root / name / f"{k}.png")


def test_own_folders_become_a_translator(tmp_path, autoencoder):
    write_folder(tmp_path / "set", {"a": 12, "b": 14})
    data = own_domains(load(f"folder:{tmp_path / 'set'}", size=16))
    for part in ("train", "val", "test"):
        assert set(data.part(part).labels["domain"].tolist()) == {0, 1}
    train_part = data.part("train")
    pairs = encode_labelled(train_part, autoencoder, LabelExpert({"domain": 2}))
    translator, _ = fit_domains(pairs, data.classes, autoencoder, 5, **QUIET)
    test = data.part("test")
    assert translator.under_every_label(test.batch(torch.arange(len(test))), test.labels["domain"]).isfinite().all()


@pytest.mark.parametrize(("counts", "said"), [({"only": 30}, "one folder"), ({"a": 30, "b": 4}, "'b' has 4 pictures")])
def test_own_folders_that_cannot_work_are_named(tmp_path, counts, said):
    write_folder(tmp_path / "set", counts)
    with pytest.raises(CourseError, match=said):
        own_domains(load(f"folder:{tmp_path / 'set'}", size=16))


def test_an_adapted_autoencoder_is_better_and_the_original_unmoved(autoencoder):
    from course_lib.experts import fingerprint

    data = pictures(24)
    before, quality = fingerprint(autoencoder), reconstruction_psnr(autoencoder, data)
    adapted = adapt_autoencoder(autoencoder, data, 20, rate=1e-2, **QUIET)
    assert fingerprint(autoencoder) == before
    assert reconstruction_psnr(adapted, data) > quality + 0.5
    assert not any(p.requires_grad for p in adapted.parameters())


def test_gaussian_transport_makes_mean_and_covariance_right():
    from course_lib.evaluation.domain_scores import GaussianTransport

    g = torch.Generator().manual_seed(0)
    own = torch.randn(4000, 3, generator=g) @ torch.randn(3, 3, generator=g) + 1
    other = torch.randn(4000, 3, generator=g) @ torch.randn(3, 3, generator=g) - 2
    moved = GaussianTransport(own, other, ridge=0.0)(own)
    assert torch.allclose(moved.mean(0), other.mean(0), atol=1e-3)
    assert torch.allclose(torch.cov(moved.T), torch.cov(other.T), atol=1e-2)
    assert torch.allclose(GaussianTransport(own, own, ridge=0.0)(own), own, atol=1e-3)
    with pytest.raises(CourseError):
        GaussianTransport(own, other[:, :2])
