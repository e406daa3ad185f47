"""Pictures with something taken away, repainted or warped."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.data import load_people
from course_lib.data.image_set import (
    CONTROL_POINTS,
    cue_conflict,
    displacements,
    edges,
    grey,
    grey_square,
    luminance,
    shuffle_patches,
    stylise,
    warp,
)


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    train = load_people().part("train")
    return train.batch(torch.arange(12) * 1000)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_grey_has_no_colour_and_the_same_brightness(pictures):
    found = grey(pictures)
    assert torch.equal(found[:, 0], found[:, 2])
    assert torch.allclose(luminance(found), luminance(pictures), atol=1e-5)


def test_edges_are_lines_where_colours_change_and_nothing_else():
    flat = torch.full((1, 3, 16, 16), 0.3)
    assert torch.equal(edges(flat), torch.ones(1, 3, 16, 16)), "a flat picture has no edge"
    half = flat.clone()
    half[..., 8:] = -0.9
    found = edges(half)[0, 0]
    assert found[:, 7].max() < -0.5 and torch.equal(found[:, :6], torch.ones(16, 6))
    # Red on green of equal luminance: invisible in grey, an edge in colour.
    red, green = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([-1.0, 0.0187 - 1 + 0.9999, -1.0])
    green[1] = -1 + 2 * 0.299 / 0.587
    equal = torch.where(torch.arange(16)[None, None] < 8, red[:, None, None], green[:, None, None]).expand(3, 16, 16)
    assert edges(equal[None])[0, 0, :, 7].max() < 0 and edges(grey(equal[None])).min() > 0.9


def test_the_square_hides_a_quarter_and_keeps_the_rest(pictures):
    found = grey_square(pictures)
    changed = (found != pictures).any(1)
    assert (found[:, :, 16:48, 16:48] == 0).all() and not changed[:, :16].any() and not changed[:, :, 48:].any()


def test_shuffled_patches_are_a_permutation(pictures):
    found = shuffle_patches(pictures, generator())
    assert not torch.equal(found, pictures)
    assert torch.equal(found.flatten(1).sort(1).values, pictures.flatten(1).sort(1).values)
    whole = pictures[0].unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(64, -1)
    parts = found[0].unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).reshape(64, -1)
    equal = (parts[:, None] == whole[None]).all(2)
    assert equal.any(1).all(), "every patch is one of the picture's"


def test_a_cue_conflict_has_the_shape_of_one_and_the_colours_of_the_other(pictures):
    other = pictures.roll(1, 0)
    found = cue_conflict(pictures, other, generator())
    white = pictures.amin(1) > 0.9
    assert torch.equal(found.amin(1).gt(0.9) | white, white), "white areas stay, filled areas are filled"
    for picture, giver, paper in zip(found, other, white, strict=True):
        filled = picture[:, ~paper].T[::17, None]
        assert (filled == giver.flatten(1).T[None]).all(2).any(1).all(), "every colour is one of the giver's"
    itself = cue_conflict(pictures, pictures, generator())
    assert (itself - pictures).abs().mean() < 0.1 * (found - pictures).abs().mean() + 0.02


def test_stylised_pictures_are_pictures_and_depend_on_the_generator_alone(pictures):
    first, again, other = (stylise(pictures, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.abs().max() <= 1 + 1e-5 and first.shape == pictures.shape


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 3.0))
def test_the_border_stays_on_the_border(seed, strength):
    moves = displacements(3, generator(seed), strength).view(3, CONTROL_POINTS, CONTROL_POINTS, 2)
    assert moves.abs().max() <= strength / 4 + 1e-6
    assert not moves[:, :, [0, -1], 0].any() and not moves[:, [0, -1], :, 1].any()
    assert moves[:, 1:-1, 1:-1].abs().max() > 0


def test_a_warp_without_moves_is_the_identity_and_keeps_tensors_aligned(pictures):
    still = torch.zeros(len(pictures), CONTROL_POINTS**2, 2)
    assert torch.allclose(warp(pictures, still), pictures, atol=1e-4)
    moves = displacements(len(pictures), generator(), 1.0)
    both = warp(torch.cat([pictures, 0.5 * pictures], 1), moves)
    assert torch.allclose(both[:, 3:], 0.5 * both[:, :3], atol=1e-6)
    assert (both[:, :3] - pictures).abs().mean() > 0.02


def test_a_warp_shows_at_a_control_point_what_lies_where_it_moved_to():
    ramp = torch.linspace(-1, 1, 61)
    picture = torch.stack([ramp[None].expand(61, 61), ramp[:, None].expand(61, 61)])[None]  # every pixel says x, y
    moves = displacements(1, generator(3), 1.0)
    found = warp(picture, moves)[0, :, ::20, ::20]
    line = torch.linspace(-1, 1, 4)
    y, x = torch.meshgrid(line, line, indexing="ij")
    wanted = torch.stack([x, y]) + moves[0].T.view(2, 4, 4)
    assert torch.allclose(found, wanted, atol=1e-3)
