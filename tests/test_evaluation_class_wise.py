"""Class-wise scores, the networks they look through, and the cache of real features."""

import pytest
import torch
from torchvision.models import inception_v3

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.evaluation import Judge, frechet_distance
from course_lib.evaluation.scores import (
    INTRA_CLASS_MEAN,
    FeatureNetwork,
    class_wise,
    feature_network,
    feature_scores,
    gaussian_mmd,
    inception_features,
    judge_features,
    kernel_distance,
    manifold_scores,
    real_features,
)
from course_lib.experts import Classifier, ClassifierConfig, freeze


def distance(real, fake):
    return {"score": frechet_distance(real, fake)}


def test_each_class_is_scored_by_itself():
    real, fake = torch.randn(40, 4), torch.randn(60, 4)
    real_labels, fake_labels = torch.arange(40) % 2, torch.arange(60) % 2
    real[real_labels == 1] += 5
    found = class_wise(real, fake, real_labels, fake_labels, ["near", "far"], distance)
    assert list(found) == ["near", "far", INTRA_CLASS_MEAN]
    for label, name in enumerate(("near", "far")):
        own = frechet_distance(real[real_labels == label], fake[fake_labels == label])
        assert found[name] == {"score": own}
    assert found["far"]["score"] > 50 > found["near"]["score"]
    assert found[INTRA_CLASS_MEAN]["score"] == pytest.approx((found["near"]["score"] + found["far"]["score"]) / 2)


def test_a_generator_that_ignores_the_class_is_found_out():
    """All classes together look right; each by itself does not."""
    real = torch.cat([torch.randn(200, 3) - 4, torch.randn(200, 3) + 4])
    labels = torch.arange(2).repeat_interleave(200)
    ignoring = real[torch.randperm(400)]
    assert frechet_distance(real, ignoring) == pytest.approx(0.0, abs=1e-6)
    assert class_wise(real, ignoring, labels, labels, "ab", distance)[INTRA_CLASS_MEAN]["score"] > 50


def test_all_scores_of_each_class():
    real, fake = torch.randn(30, 4), torch.randn(30, 4) + 1
    labels = torch.arange(30) % 3
    found = class_wise(real, fake, labels, labels, ["a", "b", "c"], feature_scores, least=6)
    own = real[labels == 1], fake[labels == 1]
    assert found["b"] == {
        "Fréchet distance": frechet_distance(*own),
        "kernel distance": kernel_distance(*own),
        "KMMD": gaussian_mmd(*own),
        **manifold_scores(*own)._asdict(),
    }
    assert [*found] == ["a", "b", "c", INTRA_CLASS_MEAN]


def test_small_classes_are_left_out_and_wrong_labels_refused():
    real, labels = torch.randn(9, 2), torch.tensor([0] * 8 + [1])
    assert list(class_wise(real, real, labels, labels, ["many", "one"], distance)) == ["many", INTRA_CLASS_MEAN]
    with pytest.raises(CourseError, match="no class has 20"):
        class_wise(real, real, labels, labels, ["many", "one"], distance, 20)
    with pytest.raises(CourseError, match="one label"):
        class_wise(real, real, labels[:5], labels, ["many", "one"], distance)


# --- networks ---------------------------------------------------------------------------------------------------------


def small_judge():
    return Judge(freeze(Classifier(ClassifierConfig({"kind": 5}, width=4, projection=3))))


def test_the_judges_probabilities_and_key():
    judge, images = small_judge(), torch.rand(4, 3, 32, 32) * 2 - 1
    network = judge_features(judge)
    torch.testing.assert_close(network.features(images), judge.features(images))
    p = network.probabilities(images)
    torch.testing.assert_close(p.sum(1), torch.ones(4))
    assert torch.equal(p.argmax(1), judge.predict(images, "kind"))
    before = network.key
    assert judge_features(judge).key == before
    judge.network.heads["kind"].bias.data[0] += 1
    assert judge_features(judge).key != before


def test_inception_from_a_local_file(tmp_path):
    reference = inception_v3(weights=None, init_weights=False, transform_input=False).eval()
    path = tmp_path / "inception.pth"
    torch.save(reference.state_dict(), path)
    images = torch.rand(2, 3, 32, 32) * 2.4 - 1.2
    network = inception_features(path)
    features = network.features(images)
    assert features.shape == (2, 2048) and network.name == "Inception"
    with torch.no_grad():
        mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        given = ((images.clamp(-1, 1) + 1) / 2 - mean[:, None, None]) / spread[:, None, None]
        given = torch.nn.functional.interpolate(given, (299, 299), mode="bilinear", align_corners=True)
        expected = reference(given).softmax(1)
        pooled = reference.fc(features).softmax(1)
    torch.testing.assert_close(network.probabilities(images), expected)
    torch.testing.assert_close(pooled, expected)


def test_missing_or_foreign_inception_weights_are_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(CourseError, match="not on this machine"):
        feature_network("inception")
    foreign = tmp_path / "foreign.pth"
    torch.save({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(CourseError, match="does not hold"):
        inception_features(foreign)
    with pytest.raises(CourseError, match="choose judge or inception"):
        feature_network("vgg")


# --- the cache --------------------------------------------------------------------------------------------------------


def counting(key="a"):
    """A network of mean colours that counts the pictures it saw."""
    seen = []

    def features(images):
        seen.append(len(images))
        return images.mean((2, 3))

    return FeatureNetwork("colour", key, features, features), seen


def test_features_are_computed_once_for_each_pictures_size_and_network(tmp_path):
    data = ImageSet("toy", torch.randint(0, 256, (300, 3, 16, 16), dtype=torch.uint8))
    network, seen = counting()
    first = real_features(data, network, folder=tmp_path)
    assert sum(seen) == 300
    assert torch.equal(real_features(data, network, folder=tmp_path), first) and sum(seen) == 300
    torch.testing.assert_close(first, torch.cat(list(data.batches(100))).mean((2, 3)))
    other, seen_other = counting("b")
    real_features(data, other, folder=tmp_path)
    real_features(data, network, size=8, folder=tmp_path)
    assert (sum(seen), sum(seen_other)) == (600, 300)
    changed = ImageSet("toy", data.images.clone())
    changed.images[7, 0, 0, 0] ^= 1
    assert not torch.equal(real_features(changed, network, folder=tmp_path), first)


def test_a_damaged_file_is_computed_again(tmp_path):
    data = ImageSet("toy", torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8))
    network, seen = counting()
    first = real_features(data, network, folder=tmp_path)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert torch.equal(real_features(data, network, folder=tmp_path), first)
    assert seen == [20, 20]
    assert torch.equal(real_features(data, network, folder=tmp_path), first) and seen == [20, 20]
