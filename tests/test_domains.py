"""Unpaired translation: what a label-conditioned translator must satisfy, and its scores."""

import pytest
import torch
from PIL import Image, ImageDraw

from course_lib.data import ImageSet, load
from course_lib.errors import CourseError
from course_lib.evaluation.domain_scores import Gallery, directions, mean_score
from course_lib.evaluation.domain_statistics import STATISTICS, domain_statistics
from course_lib.experts import Autoencoder, AutoencoderConfig, LabelExpert, freeze
from course_lib.recipes.domains import plain_retrieval
from course_lib.translation import Pairs
from course_lib.translation.domains import (
    DomainMethod,
    DomainTranslator,
    encode_labelled,
    fit_domains,
    label_flow,
)
from course_lib.translation.edits import EDITED, AttributeEditor, editable, linear_edit, other_values
from course_lib.translation.own_data import adapt_autoencoder, own_domains, psnr
from course_lib.translation.partners import pseudo_pairs

QUIET = {"log_every": 10, "checkpoint_every": 0, "preview_every": 0, "progress": False}


def toy_pairs(count=200, domains=3, dim=8, seed=0):
    """The same content in every domain, moved by the domain's mean and stretched along one axis."""
    g = torch.Generator().manual_seed(seed)
    content = torch.randn(count, dim, generator=g)
    offset = 3 * torch.randn(domains, dim, generator=g)
    latents = torch.cat([content + offset[k] + 0.05 * torch.randn(count, dim, generator=g) for k in range(domains)])
    labels = torch.arange(domains).repeat_interleave(count)
    return Pairs(torch.eye(domains)[labels], latents, torch.full_like(latents, 0.01)), labels


@pytest.fixture(scope="module")
def autoencoder():
    torch.manual_seed(0)
    config = AutoencoderConfig(16, 8, (8, 16), (8, 16))
    return freeze(Autoencoder(config))


def pictures(count=40, size=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, size, size), generator=g, dtype=torch.uint8)
    labels = torch.arange(count) % 2
    return ImageSet("toy", images, {"domain": labels}, {"domain": ["a", "b"]})


def test_pseudo_pairs_are_mutual_across_domains_and_ignore_a_shift():
    pairs, labels = toy_pairs()
    first, second = pseudo_pairs(pairs.mean, labels)
    assert (labels[first] != labels[second]).all()
    assert (first % 200 == second % 200).float().mean() > 0.95  # nobody told it
    shifted = pseudo_pairs(pairs.mean + 100 * labels[:, None], labels)
    assert torch.equal(first, shifted[0]) and torch.equal(second, shifted[1])


def test_a_fresh_flow_is_the_mean_shift():
    pairs, labels = toy_pairs()
    flow = label_flow(pairs, gain=0.0)
    with torch.no_grad():
        flow(pairs.mean, pairs.condition)
        flow.eval()
        moved = flow.inverse(flow.encode(pairs.mean[:200], pairs.condition[:200]), pairs.condition[200:400])
    means = [pairs.mean[labels == k].mean(0) for k in range(3)]
    assert (moved - (pairs.mean[:200] - means[0] + means[1])).abs().max() < 0.05  # the ridge shrinks it a little


def test_alignment_is_trained_and_needs_partners():
    pairs, labels = toy_pairs()
    first, second = pseudo_pairs(pairs.mean, labels)
    method = DomainMethod(pairs, label_flow(pairs), (first, second))
    generator = torch.Generator().manual_seed(0)
    latent, condition, count = method.batch(torch.arange(40), generator)
    assert len(latent) == len(condition) == 40 + 2 * count and count == 10
    assert not torch.equal(condition[40 : 40 + count], condition[40 + count :])  # partners are of two domains
    loss = next(method.losses((latent, condition, count), generator, 0))
    alone = next(method.losses((latent, condition, 0), generator, 0))
    assert torch.isclose(loss.value, alone.value + loss.scalars["alignment"], atol=1e-4)
    assert DomainMethod(pairs, label_flow(pairs)).batch(torch.arange(4), generator)[2] == 0


def test_fitting_finds_the_counterpart_and_there_and_back_is_the_identity(autoencoder):
    pairs, labels = toy_pairs()
    translator, history = fit_domains(pairs, ["a", "b", "c"], autoencoder, 30, 64, **QUIET)
    own, other = labels[labels == 0], labels[labels == 1]
    moved = translator.move(pairs.mean[:200], own, other)
    assert (torch.cdist(moved, pairs.mean[200:400]).argmin(1) == torch.arange(200)).float().mean() > 0.9
    assert torch.allclose(translator.move(moved, other, own), pairs.mean[:200], atol=1e-3)
    assert history.steps == 30 and "alignment" in history.curve


def test_fitting_names_a_domain_with_too_few_pictures(autoencoder):
    pairs, _ = toy_pairs(count=3)
    with pytest.raises(CourseError, match="five pictures"):
        fit_domains(pairs, ["a", "b", "c"], autoencoder, 1)


def test_every_label_and_detail(autoencoder):
    data = pictures()
    pairs = encode_labelled(data, autoencoder, LabelExpert(2), data.labels["domain"], variants=2)
    assert torch.equal(pairs.condition[:40], pairs.condition[40:])
    translator, _ = fit_domains(pairs, ["a", "b"], autoencoder, 2, pictures=40, **QUIET)
    y, labels = data.batch(torch.arange(6)), data.labels["domain"][:6]
    table = translator.under_every_label(y, labels)
    own = table[torch.arange(6), labels]
    assert torch.allclose(own, autoencoder.decode(autoencoder.encode(y)), atol=1e-3)
    exact = translator.under_every_label(y, labels, detail=1.0)[torch.arange(6), labels]
    assert torch.allclose(exact, y, atol=1e-3)
    stay = translator.under_every_label(y, labels, amount=0.0)
    assert torch.allclose(stay[:, 0], stay[:, 1], atol=1e-6) and torch.allclose(stay[:, 0], own, atol=1e-3)
    way = translator.path(y[0], 0, 1, 5)
    assert torch.allclose(way[0], own[0], atol=1e-3) and torch.allclose(way[-1], table[0, 1], atol=1e-3)
    y = torch.rand(3, 16, 16) * 2 - 1
    drawn = translator.vary(y, 0, 3, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 2, 3, 16, 16) and not torch.equal(drawn[0], drawn[1])
    same = translator.vary(y, 0, 2, spread=0.0)
    expected = translator.under_every_label(y[None], torch.tensor([0]))[0]
    torch.testing.assert_close(same, torch.stack([expected, expected]), atol=1e-4, rtol=0)
    with pytest.raises(CourseError, match="between 0"):
        translator.vary(y, 0, 1, spread=1.5)


class ToyJudge:
    """Features are the first pixels; the style head reads nothing."""

    def __init__(self):
        self.network = torch.nn.Module()
        self.network.heads = torch.nn.ModuleDict({"style": torch.nn.Linear(12, 2)})

    def features(self, images):
        return images.flatten(1)[:, :12]


def test_gallery_scores_counterparts_and_refuses_unpaired_domains():
    images = torch.randint(0, 256, (20, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = ImageSet(
        "toy",
        torch.cat([images, images]),
        {"style": torch.arange(2).repeat_interleave(20), "emoji": torch.arange(20).repeat(2)},
        {"style": ["a", "b"], "emoji": [str(k) for k in range(20)]},
    )
    gallery = Gallery.of(data, ToyJudge())
    exact = gallery.score(gallery.pictures(0), 0, 1)
    assert exact.top1 == exact.top5 == 1.0 and exact.frechet < 1e-6
    chosen = torch.tensor([3, 7, 11])
    assert gallery.score(gallery.pictures(0, chosen), 0, 1, chosen).top1 == 1.0
    wrong = gallery.score(gallery.pictures(0).roll(1, 0), 0, 1)
    assert wrong.top1 == 0.0
    assert mean_score([exact, wrong]).top1 == 0.5
    assert len(directions(5)) == 20
    with pytest.raises(CourseError, match="same emoji"):
        Gallery.of(data.subset(torch.arange(39)), ToyJudge())


def test_plain_retrieval_sees_what_a_right_translation_gains():
    class Pixels:
        """Latents are the pixels."""

        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            return z.view(-1, 3, 4, 4)

    class Inverting:
        """The other domain shows the same in inverted colours, and this translator knows it."""

        names, target, flow = ("a", "b"), Pixels(), torch.nn.Linear(1, 1)

        def move(self, latent, labels, others):
            return torch.where((labels != others)[:, None], -latent, latent)

    images = torch.randint(0, 256, (20, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = {"style": torch.arange(2).repeat_interleave(20), "emoji": torch.arange(20).repeat(2)}
    classes = {"style": ["a", "b"], "emoji": [str(k) for k in range(20)]}
    gallery = Gallery.of(ImageSet("toy", torch.cat([images, 255 - images]), labels, classes), ToyJudge())
    found = plain_retrieval(Inverting(), gallery)
    for space in ("pixels", "latents"):
        assert found[f"top1 by {space}"] == found[f"top5 by {space}"] == 1.0
        assert found[f"top1 by {space} (untranslated)"] == 0.0, "an inverted picture is as far away as can be"


def test_statistics_of_drawn_squares():
    def draw(fill, outline, box=(16, 16, 47, 47)):
        picture = Image.new("RGB", (64, 64), "white")
        ImageDraw.Draw(picture).rectangle(box, fill=fill, outline=outline, width=2)
        return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(64, 64, 3).permute(2, 0, 1)

    from course_lib.data import to_float

    stack = [draw("red", "red"), draw("red", "black"), draw("gray", "gray"), draw("red", "red", (2, 2, 61, 61))]
    values = dict(zip(STATISTICS, domain_statistics(to_float(torch.stack(stack))).T, strict=True))
    assert values["saturation"][0] > 0.99 and values["saturation"][2] < 0.01
    assert values["outline darkness"][1] > 0.3 and abs(values["outline darkness"][0]) < 1e-6
    assert abs(values["margin"][0] - 16 / 64) < 1e-6 and abs(values["margin"][3] - 2 / 64) < 1e-6
    assert abs(values["ink"][0] - 0.25) < 1e-6
    white = domain_statistics(torch.ones(1, 3, 64, 64))[0]
    assert white[-1] == 0.5 and white[:-1].abs().max() < 1e-6
    with pytest.raises(CourseError):
        domain_statistics(torch.ones(3, 64, 64))


CLASSES = {
    "skin_tone": ["none", "light", "dark"],
    "gender": ["none", "woman", "man"],
    "age": ["none", "old"],
    "hair": ["none", "red"],
}


def attribute_set(count=60):
    g = torch.Generator().manual_seed(1)
    labels = {name: torch.randint(len(values), (count,), generator=g) for name, values in CLASSES.items()}
    return ImageSet("toy", torch.zeros(count, 3, 16, 16, dtype=torch.uint8), labels, CLASSES)


def test_an_edit_changes_one_block_and_keeps_v(autoencoder):
    data = attribute_set()
    expert = LabelExpert({name: len(values) for name, values in CLASSES.items()})
    latents = torch.randn(60, 8, generator=torch.Generator().manual_seed(2))
    pairs = Pairs(expert.encode(data.labels), latents, torch.full_like(latents, 0.1))
    flow = label_flow(pairs, gain=1.0)
    with torch.no_grad():
        flow(latents, pairs.condition)
    editor = AttributeEditor(CLASSES, flow, autoencoder)
    where = editable(data, "gender")
    assert (data.labels["gender"][where] > 0).all()
    labels = {name: data.labels[name][where] for name in EDITED}
    values = other_values(labels["gender"], CLASSES["gender"], torch.Generator().manual_seed(0))
    assert (values != labels["gender"]).all() and (values > 0).all()
    edited = editor.edit(latents[where], labels, "gender", values)
    after = flow.encode(edited, expert.encode(labels | {"gender": values}))
    assert torch.allclose(after, flow.encode(latents[where], expert.encode(labels)), atol=1e-4)
    same = editor.edit(latents[where], labels, "gender", labels["gender"])
    assert torch.allclose(same, latents[where], atol=1e-4)
    with pytest.raises(CourseError):
        editor.edit(latents[where], labels, "style", values)
    with pytest.raises(CourseError):
        other_values(labels["hair"] * 0 + 1, CLASSES["hair"], torch.Generator())


def test_linear_edit_moves_class_means():
    data = attribute_set()
    latents = torch.zeros(60, 4)
    latents[data.labels["gender"] == 2] = 1.0
    old, new = torch.tensor([1, 2]), torch.tensor([2, 1])
    edited = linear_edit(torch.zeros(2, 4), old, new, data, latents, "gender", matched=False)
    assert torch.allclose(edited, torch.tensor([[1.0] * 4, [-1.0] * 4]))


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
    pairs = encode_labelled(train_part, autoencoder, LabelExpert(2), train_part.labels["domain"], 2)
    translator, _ = fit_domains(pairs, data.classes["domain"], autoencoder, 5, 16, pictures=len(train_part), **QUIET)
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
    before, quality = fingerprint(autoencoder), psnr(autoencoder, data)
    adapted = adapt_autoencoder(autoencoder, data, 20, rate=1e-2, **QUIET)
    assert fingerprint(autoencoder) == before
    assert psnr(adapted, data) > quality + 0.5
    assert not any(p.requires_grad for p in adapted.parameters())


def test_samples_use_every_label_and_wrong_names_are_refused(autoencoder):
    pairs, _ = toy_pairs()
    translator = DomainTranslator(["a", "b", "c"], label_flow(pairs), autoencoder)
    with torch.no_grad():
        translator.flow.train()
        translator.flow(pairs.mean, pairs.condition)
        translator.flow.eval()
    assert translator.vary(torch.zeros(3, 16, 16), 2, 2).shape[:2] == (2, 3)
    with pytest.raises(CourseError):
        DomainTranslator(["a", "b"], label_flow(pairs), autoencoder)


def test_gaussian_transport_makes_mean_and_covariance_right():
    from course_lib.evaluation.transport import GaussianTransport, mean_shift

    g = torch.Generator().manual_seed(0)
    own = torch.randn(4000, 3, generator=g) @ torch.randn(3, 3, generator=g) + 1
    other = torch.randn(4000, 3, generator=g) @ torch.randn(3, 3, generator=g) - 2
    moved = GaussianTransport(own, other, ridge=0.0)(own)
    assert torch.allclose(moved.mean(0), other.mean(0), atol=1e-3)
    assert torch.allclose(torch.cov(moved.T), torch.cov(other.T), atol=1e-2)
    assert torch.allclose(GaussianTransport(own, own, ridge=0.0)(own), own, atol=1e-3)
    assert torch.allclose(mean_shift(own, own, other).mean(0), other.mean(0), atol=1e-4)
    with pytest.raises(CourseError):
        GaussianTransport(own, other[:, :2])
