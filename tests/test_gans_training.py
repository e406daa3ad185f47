"""What a GAN's training needs: losses and codes."""

import pytest
import torch
from torch.nn import functional as F

from course_lib.gan_training import CodeSpace, class_codes, gaussian_codes, hinge_critic, hinge_generator


def noise(seed=0):
    return torch.Generator().manual_seed(seed)


def test_hinge_stops_pushing_where_the_critic_is_sure():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0])
    assert hinge_critic(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert hinge_generator(fake).item() == pytest.approx(1.5)


def test_codes_are_standard_inside_each_class():
    labels = torch.arange(3).repeat_interleave(400)
    mixing = torch.randn(3, 8, 8, generator=noise())
    latent = (
        torch.einsum("nij,nj->ni", mixing[labels], torch.randn(1200, 8, generator=noise(1))) + 5.0 * labels[:, None]
    )
    codes = CodeSpace.fit(latent, labels, 6).codes(latent, labels, prior=1.0)
    assert codes.shape == (1200, 6)
    for label in range(3):
        part = codes[labels == label]
        assert part.mean(0).abs().max() < 1e-4
        assert torch.allclose(part.T @ part / 400, torch.eye(6), atol=0.05)


def test_new_pictures_are_read_in_the_space_of_the_old_ones():
    labels, latent = torch.arange(2).repeat(300), torch.randn(600, 8, generator=noise())
    space = CodeSpace.fit(latent[:400], labels[:400], 5)
    assert torch.allclose(space.codes(latent[:400], labels[:400]), class_codes(latent[:400], labels[:400], 5))
    rest = space.codes(latent[400:], labels[400:], prior=1e9)  # whitened with the common covariance alone
    centred = latent[400:] - torch.stack([latent[400:][labels[400:] == k].mean(0) for k in (0, 1)])[labels[400:]]
    expected = centred.double() @ space.directions / space.common.diagonal().sqrt()
    assert torch.allclose(rest.double(), expected, atol=1e-4)


def test_a_class_of_one_picture_borrows_the_common_covariance():
    labels = torch.tensor([0] * 50 + [1])
    codes = class_codes(torch.randn(51, 4, generator=noise()), labels, 4)
    assert torch.equal(codes[-1], torch.zeros(4)) and codes.isfinite().all()


def test_gaussian_codes_are_normal_in_every_direction_and_keep_neighbours():
    draws = noise()
    # Two clusters on a curve: nothing about it is normal.
    t = torch.rand(3000, generator=draws) + 2 * (torch.rand(3000, generator=draws) < 0.5)
    latent = torch.stack([t, t.sin(), t.square()], 1) @ torch.randn(3, 6, generator=draws)
    latent = latent + 0.1 * torch.randn(3000, 6, generator=draws)
    codes = gaussian_codes(latent, 4)
    assert torch.equal(codes, gaussian_codes(latent, 4)) and codes.shape == (3000, 4)
    for _ in range(5):
        direction = F.normalize(torch.randn(4, generator=draws), dim=0)
        projected = (codes @ direction).sort().values
        normal = torch.special.ndtri((torch.arange(3000) + 0.5) / 3000)
        assert (projected - normal).abs().mean() < 0.05
    near = torch.cdist(latent[:200], latent).argsort(1)[:, 1]
    far = torch.cdist(codes[:200], codes).argsort(1)
    place = (far == near[:, None]).float().argmax(1).float()
    assert place.median() < 60, "of 3000"
