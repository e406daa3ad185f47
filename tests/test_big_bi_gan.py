"""The TensorFlow Hub adapter, with a stand-in for TensorFlow: layouts, names of signatures, messages."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from course_lib.errors import CourseError
from course_lib.experts import BigBiGAN, TargetExpert


@pytest.fixture
def hub(monkeypatch):
    """A hub whose module answers with arithmetic that can be checked, and records what it was given."""
    calls = {}

    def encode(x):
        calls["x"] = x
        code = np.zeros((len(x), 120), np.float32)
        code[:, 0] = x[:, 0, 0, 1]  # top left pixel, green
        return {"z_sample": code, "z_mean": code + 100}

    def generate(z):
        calls["z"] = z
        return {
            "default": np.broadcast_to(z[:, :1, None, None], (len(z), 128, 128, 3)),
            "upsampled": np.broadcast_to(z[:, :1, None, None], (len(z), 256, 256, 3)),
        }

    def load(handle):
        if "absent" in handle:
            raise OSError("no such module\nand a long trace")
        calls["handle"] = handle
        return SimpleNamespace(signatures={"encode": encode, "generate": generate})

    tensorflow, tensorflow_hub = ModuleType("tensorflow"), ModuleType("tensorflow_hub")
    tensorflow.constant, tensorflow_hub.load = np.asarray, load
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    monkeypatch.setitem(sys.modules, "tensorflow_hub", tensorflow_hub)
    return calls


def test_pictures_cross_the_border_channels_last_at_256_pixels(hub):
    expert = BigBiGAN()
    images = torch.zeros(2, 3, 64, 64)
    images[:, 1] = torch.tensor([0.25, -0.5])[:, None, None]
    code = expert.encode(images)
    assert hub["handle"] == BigBiGAN.resnet50 and hub["x"].shape == (2, 256, 256, 3) and hub["x"].dtype == np.float32
    assert code.shape == (2, 120) and torch.allclose(code[:, 0], torch.tensor([0.25, -0.5]), atol=1e-6), "z_sample"
    assert isinstance(expert, TargetExpert)


@pytest.mark.parametrize(("upsample", "size"), [(True, 256), (False, 128)])
def test_latents_come_back_as_pictures_without_gradients(hub, upsample, size):
    latent = torch.full((3, 120), 0.5, requires_grad=True)
    with torch.no_grad():
        latent[2] = 7.0
    pictures = BigBiGAN(upsample=upsample).decode(latent)
    assert pictures.shape == (3, 3, size, size) and not pictures.requires_grad
    assert pictures[0].unique().item() == 0.5 and pictures[2].unique().item() == 1.0, "clamped to the range"


def test_shapes_that_do_not_fit(hub):
    with pytest.raises(CourseError, match=r"\(B, 120\)"):
        BigBiGAN().decode(torch.zeros(2, 128))
    with pytest.raises(CourseError, match=r"\(B, 3, S, S\)"):
        BigBiGAN().encode(torch.zeros(2, 1, 64, 64))


def test_a_module_that_is_not_there_is_one_sentence(hub):
    with pytest.raises(CourseError, match="cannot be opened from absent/module") as caught:
        BigBiGAN("absent/module")
    assert "long trace" not in str(caught.value)


def test_without_tensorflow_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(CourseError, match="pip install tensorflow tensorflow-hub"):
        BigBiGAN()
