"""ALAE as published: the schedule of growing, the version for digits, and one run of each."""

import signal

import pytest
import torch
from torch.nn import functional as F

from course_lib.data.digits import load_digits
from course_lib.errors import CourseError
from course_lib.experts import TargetExpert, fingerprint
from course_lib.gans.alae import ALAE
from course_lib.gans.alae_config import ALAEConfig
from course_lib.gans.alae_mlp import MLPALAE, MLPALAEConfig
from course_lib.gans.growing import Stage, blend, blended, stage_at
from course_lib.recipes.alae_published import PublishedALAEMethod
from course_lib.training import Budget, train

QUIET = {"progress": False, "checkpoint_every": 0, "preview_every": 0}


def test_the_published_blend():
    found = [blend(t) for t in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx([0, 0.1464, 0.5, 0.8536, 1], abs=1e-4)


def test_each_size_has_its_share_and_fades_in_during_the_first_half():
    sizes = [4, 8, 16]
    assert stage_at(0.0, sizes, 0.6) == Stage(4, 1.0) and stage_at(0.19, sizes, 0.6) == Stage(4, 1.0)
    assert stage_at(0.2001, sizes, 0.6).size == 8 and stage_at(0.2001, sizes, 0.6).alpha < 0.01
    assert stage_at(0.25, sizes, 0.6).alpha == pytest.approx(0.5) and stage_at(0.35, sizes, 0.6) == Stage(8, 1.0)
    assert stage_at(0.6, sizes, 0.6) == stage_at(1.0, sizes, 0.6) == stage_at(0.0, sizes, 0.0) == Stage(16, 1.0)
    for bad in (([], 0.5), (sizes, 1.5)):
        with pytest.raises(CourseError, match="growing"):
            stage_at(0.1, *bad)


def test_real_pictures_fade_as_the_generator_does():
    images = torch.randn(2, 3, 16, 16)
    half = F.avg_pool2d(images, 2)
    assert torch.equal(blended(images, Stage(16, 1.0)), images)
    coarse = F.interpolate(F.avg_pool2d(half, 2), scale_factor=2)
    torch.testing.assert_close(blended(images, Stage(8, 0.0)), coarse)
    torch.testing.assert_close(blended(images, Stage(8, 0.25)), 0.75 * coarse + 0.25 * half)


def test_the_version_for_digits():
    network = MLPALAE()
    assert isinstance(network, TargetExpert)
    images = load_digits().batch(torch.arange(3))
    w = network.encode(images)
    assert w.shape == (3, 50) and network.decode(w).shape == (3, 3, 28, 28)
    torch.testing.assert_close(network.encode(images[:, :1]), w)
    torch.testing.assert_close(
        network.score(w), network.score.layers[2](network.score.layers[1](network.score.layers[0](w)))[:, 0]
    )
    order = torch.randperm(784)
    permuted = MLPALAE()
    permuted.load_state_dict(network.state_dict())
    permuted.encoder.layers.layers[0].weight.data = network.encoder.layers.layers[0].weight.data[:, order]
    shuffled = images[:, :1].flatten(2)[:, :, order].view(3, 1, 28, 28)
    torch.testing.assert_close(permuted.encode(shuffled), w)
    with pytest.raises(CourseError, match="28 pixels"):
        network.encode(torch.zeros(1, 1, 32, 32))


def test_digits_train_and_are_read_back():
    torch.manual_seed(0)
    network = MLPALAE(MLPALAEConfig(8, 32, 2))
    method = PublishedALAEMethod(load_digits(), network, rate=2e-3, flip=False, batch_size=32)
    history = train(method, Budget(60), 32, log_every=20, **QUIET)
    curve = history.curve["reciprocity"]
    assert curve[-1] < curve[0] / 2
    assert method.preview().shape == (16, 3, 28, 28)


def growing():
    torch.manual_seed(0)
    return PublishedALAEMethod(load_digits(16), ALAE(ALAEConfig((6, 5, 4), 5, 2)), grow=0.75, batch_size=4)


def watched(method, stop=None):
    """Records size, share and whether the optimiser knows nothing; interrupts in step ``stop``."""
    seen, original = [], method._critic_step

    def step(real, stage, generator):
        if len(seen) == stop:
            signal.raise_signal(signal.SIGINT)
        seen.append((stage.size, round(stage.alpha, 2), not method.optimizers["critic"].state))
        assert real.shape[-1] == stage.size
        return original(real, stage, generator)

    method._critic_step = step
    return seen


def test_growing_resets_the_optimisers_and_reaches_every_size(tmp_path):
    whole = growing()
    seen = watched(whole)
    train(whole, Budget(8), 4, **QUIET)
    assert [size for size, *_ in seen] == [4, 4, 8, 8, 16, 16, 16, 16]
    assert [alpha for _, alpha, _ in seen] == [1, 1, 0, 1, 0, 1, 1, 1]
    assert [fresh for *_, fresh in seen] == [True, False, True, False, True, False, False, False]
    # Stopped in the middle of one size, and just before another.
    for stop in (2, 3):
        folder = tmp_path / str(stop)
        watched(cut := growing(), stop)
        train(cut, Budget(8), 4, folder=folder, progress=False)
        train(rest := growing(), Budget(8), 4, folder=folder, resume=True, progress=False)
        for name, module in rest.modules.items():
            assert fingerprint(module) == fingerprint(whole.modules[name])
