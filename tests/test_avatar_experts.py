"""The shipped experts of the avatars do on test people what their cards say, and translate as the notebooks claim."""

import pytest
import torch

from course_lib.data import load_people, people_parts
from course_lib.data.people import ATTRIBUTES, PARTS
from course_lib.evaluation import Judge
from course_lib.experts import BlackBox, SentenceExpert, export_decoder, load_expert
from course_lib.recipes.experts import accuracy, label_cells, psnr, segmentation_scores
from course_lib.training import load_card
from course_lib.translation import LowResolution, explained, load_superresolution


@pytest.fixture(scope="module")
def test():
    people = load_people().part("test")
    return people.subset(range(0, len(people), 16))


@pytest.fixture(scope="module")
def autoencoder():
    return load_expert("avatar-autoencoder")


@pytest.fixture(scope="module")
def images(test):
    return test.batch(torch.arange(len(test)))


def test_reconstructions_are_sharp_and_keep_what_the_judge_reads(test, images, autoencoder):
    again, judge = autoencoder.decode(autoencoder.encode(images)), Judge.load()
    assert psnr(images, again) > 31
    for label in ATTRIBUTES:
        assert (judge.predict(images, label) == test.labels[label]).float().mean() > 0.95, label
        assert (judge.predict(again, label) == judge.predict(images, label)).float().mean() > 0.95, label


@pytest.mark.parametrize("name", ["avatar-classifier", "avatar-judge"])
def test_classifiers_read_every_attribute(name, test):
    assert min(accuracy(load_expert(name), test).values()) > 0.95
    card = load_card(name).metrics
    assert min(card[f"{label} accuracy on test"] for label in ATTRIBUTES) >= 0.97


def test_the_segmenter_finds_the_parts(test):
    people = load_people()
    chosen = (people.split == 2).nonzero()[:, 0][::16]
    labels = label_cells(people_parts()[chosen], len(PARTS))
    assert segmentation_scores(load_expert("avatar-segmenter"), test, labels)["mIoU"] > 0.95


def test_the_decoder_is_the_same_behind_onnx(autoencoder, images, tmp_path):
    latent = autoencoder.encode(images[:4])
    box = BlackBox(export_decoder(autoencoder, tmp_path / "decoder.onnx"))
    torch.testing.assert_close(box.decode(latent), autoencoder.decode(latent), atol=1e-4, rtol=0)


def test_captions_of_one_person_lie_together():
    people = load_people()
    sentences = SentenceExpert()
    one, other = people.captions[3], people.captions[1500]
    first, second = sentences.encode(one), sentences.encode(other)
    inside = (first @ first.T)[~torch.eye(len(one), dtype=torch.bool)].mean()
    assert inside > (first @ second.T).mean() + 0.1


@pytest.mark.parametrize("size", [8, 16])
def test_answers_shrink_back_and_differ(size, images):
    translator = load_superresolution(size)
    drawn = translator.translate(images[::5], 3, generator=torch.Generator().manual_seed(0))
    source, wanted = LowResolution(size), LowResolution(size).encode(images[::5]).flatten(1)
    ceiling = translator.target.decode(translator.target.encode(images[::5]))
    best = explained(wanted, source.encode(ceiling).flatten(1))
    assert explained(wanted, source.encode(drawn[:, 0]).flatten(1)) > 0.95 * best
    assert (drawn[:, 0] - drawn[:, 1]).abs().mean() > 0.01
