"""Generators in latent space: the space, the phases of a step, and a run that resumes to the same bits."""

import signal

import pytest
import torch

from course_lib.data import NEW_KINDS, OLD_KINDS, load_kinds
from course_lib.data.avatars import SOURCE_STYLES
from course_lib.errors import CourseError
from course_lib.evaluation import Judge
from course_lib.experts import GridAutoencoder, GridAutoencoderConfig, LatentSpace, fingerprint, load_expert
from course_lib.gan_training import GANData, GANSchedule
from course_lib.gans.alae import ALAE, ALAEConfig
from course_lib.gans.biggan import BigGANConfig
from course_lib.gans.stylegan import StyleGANConfig
from course_lib.recipes.generators import (
    ALAEMethod,
    BigGANMethod,
    StyleGANMethod,
    class_accuracy,
    old_kinds,
    score_samples,
)
from course_lib.training import Budget, train

SCHEDULE = GANSchedule(decode=4, lead=2)


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def make(kind):
    torch.manual_seed(0)
    data = GANData(torch.randn(24, 5, 8, 8, generator=noise()).half(), torch.randn(24, 8), torch.arange(24) % 3)
    if kind == "stylegan":
        return StyleGANMethod(data, StyleGANConfig((8, 8, 8), (8, 8, 8), 8, 2, colours=5, doublings=1), SCHEDULE)
    if kind == "biggan":
        config = BigGANConfig(3, (8, 8, 8, 8), (8, 8), 1, 8, 4, (), colours=5, doublings=1, bounded=False)
        return BigGANMethod(data, config, SCHEDULE)
    return ALAEMethod(data, ALAE(ALAEConfig((8, 8), 8, 2, colours=5, bounded=False)), SCHEDULE)


KINDS = ("stylegan", "biggan", "alae")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("step", "phases"), [(0, "decoder"), (2, "decoder critic"), (4, "critic generator")])
def test_first_the_generator_decodes_then_the_discriminator_joins(kind, step, phases):
    method = make(kind)
    found = []
    for loss in method.losses(method.batch(torch.arange(8), noise()), noise(1), step):
        trained = {"decoder": "generator"}.get(loss.optimizer, loss.optimizer)
        before = {name: fingerprint(module) for name, module in method.modules.items()}
        optimizers = [method.optimizers[name] for name in (loss.optimizer, *loss.also)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.value.backward()
        for optimizer in optimizers:
            optimizer.step()
        moved = {name for name, module in method.modules.items() if fingerprint(module) != before[name]}
        # The discriminator's spectral vectors move in every pass.
        assert trained in moved and (moved == {trained, *loss.also} or kind == "biggan")
        found.append(loss.optimizer)
    # ALAE's third phase is reciprocity.
    expected = phases.split() + (["critic"] if kind == "alae" and step == 4 else [])
    assert found == expected


class _Interrupting:
    """A user presses the key in the sixth step."""

    def losses(self, batch, generator, step):
        if step == 5:
            signal.raise_signal(signal.SIGINT)
        yield from super().losses(batch, generator, step)


@pytest.mark.parametrize("kind", KINDS)
def test_training_runs_and_resumes_to_the_same_bits(kind, tmp_path):
    whole, cut, rest = make(kind), make(kind), make(kind)
    history = train(whole, Budget(9), 8, progress=False)
    assert {"loss/decoder", "loss/critic", "loss/generator", "decoding error"} <= set(history.curve)
    cut.__class__ = type("Interrupted", (_Interrupting, type(cut)), {})
    assert train(cut, Budget(9), 8, folder=tmp_path, progress=False).steps == 6
    assert train(rest, Budget(9), 8, folder=tmp_path, resume=True, progress=False).steps == 9
    for name, module in rest.modules.items():
        assert fingerprint(module) == fingerprint(whole.modules[name])


def test_a_latent_space_has_unit_variance_and_its_channels_move_pixels_alike():
    autoencoder = load_expert("avatar-autoencoder")
    space, data = LatentSpace(autoencoder), load_kinds()
    images = data.batch(torch.arange(0, len(data), 150))
    latents = space.encode(images)
    assert latents.shape[1:] == space.shape and latents.var((0, 2, 3)).mean().item() == pytest.approx(1, abs=0.3)
    assert (space.decode(latents) - autoencoder.decode(autoencoder.encode(images))).abs().max() < 1e-4
    signs, moved = torch.randn(len(latents), 8, 8, generator=noise()).sign(), []
    with torch.no_grad():
        before = autoencoder.render(space.unscaled(latents))
        for channel in range(space.shape[0]):
            after = latents.clone()
            after[:, channel] += 0.2 * signs
            moved.append((autoencoder.render(space.unscaled(after)) - before).square().mean().sqrt())
    moved = torch.stack(moved)
    assert moved.max() < 2 * moved.min()
    with pytest.raises(CourseError, match="not measured"):
        LatentSpace(GridAutoencoder(GridAutoencoderConfig()))


def test_a_decoder_bears_noise():
    space, data = LatentSpace(load_expert("avatar-autoencoder")), load_kinds().part("val")
    images = data.batch(torch.arange(0, len(data), 10))
    latents = space.encode(images)
    noisy = space.decode(latents + 0.2 * torch.randn(latents.shape, generator=noise()))
    error = (space.decode(latents) - images).square().mean()
    assert error < (noisy - images).square().mean() < 5 * error


def test_old_kinds_are_all_but_the_new_ones_and_fresh_ones_are_in_no_file():
    data = load_kinds()
    old = old_kinds(data)
    assert len(old) == (6 + len(OLD_KINDS)) * 400 and not set(old.classes["class"]) & set(NEW_KINDS)
    row = (data.labels["kind"] == data.classes["kind"].index("thumbs")).nonzero()[0, 0]
    mine = (old.labels["kind"] == old.classes["class"].index("thumbs")).nonzero()[0, 0]
    assert torch.equal(data.images[row], old.images[mine])
    assert set(SOURCE_STYLES) <= set(old.classes["class"])


def test_scores_of_the_data_themselves_are_those_of_a_perfect_generator():
    data = old_kinds(load_kinds())
    part, train_part = data.part("test"), data.part("val")
    judge = Judge.load()
    pictures = torch.cat(list(part.batches(250)))
    scores = score_samples(lambda count, draws: pictures[:count], part, train_part, judge)
    assert scores["Fréchet distance"] < 1e-3 and scores["Fréchet ratio"] < 0.01
    assert scores["precision"] == scores["recall"] == 1 and scores["copies"] == pytest.approx(0.5, abs=0.02)
    right = class_accuracy(pictures, part, judge)
    assert right["class accuracy"] == right["class accuracy of real pictures"] > 0.98
    wrong = class_accuracy(pictures.roll(40, 0), part, judge)
    assert wrong["class accuracy of the worst class"] == 0
