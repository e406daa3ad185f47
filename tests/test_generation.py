"""One interface over all generators: what a grid shows is what the network draws from the latents it names."""

import pytest
import torch
from matplotlib.figure import Figure

from course_lib.errors import CourseError
from course_lib.experts import freeze
from course_lib.gans.biggan import BigGANConfig, Generator, start_weights
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.generation import Walk, open_generator
from course_lib.generation import generator as grids
from course_lib.generation.generator import KINDS, BigGANPictures, HyperPictures, StylePictures, draw_kind, slerp, way
from course_lib.hypermod import HyperGenerator
from course_lib.training import Card, save_weights

STYLE = StyleGANConfig((16, 16, 8), (16, 16, 8), latent=12, mapping=2)
BIG = BigGANConfig(3, (16, 16, 8), (8, 8), 2, 12, 6, ())
NAMES = ["cat", "dog", "owl"]


def source():
    torch.manual_seed(1)
    network = StyleGAN(STYLE)
    for block in network.synthesis.blocks:  # noise that can be seen
        for part in (block.noise1, block.noise2):
            torch.nn.init.normal_(part.weight)
    return freeze(network)


def style():
    return StylePictures(source())


def hyper():
    network = HyperGenerator(source(), 3, width=8)
    for head in network.heads:  # classes that differ
        torch.nn.init.normal_(head.kernel.weight, std=0.2)
    return HyperPictures(freeze(network), NAMES)


def big():
    torch.manual_seed(2)
    network = Generator(BIG)
    start_weights(network)
    return BigGANPictures(freeze(network), NAMES)


conditional = pytest.mark.parametrize("make", [hyper, big])
every = pytest.mark.parametrize("make", [style, hyper, big])


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


# --- drawing ----------------------------------------------------------------------------------------------------------


@every
def test_drawing_is_a_function_of_its_arguments(make):
    generator = make()
    z = generator.latents(5, seed=3)
    vectors = generator.vectors_of(["cat", "owl", "cat", "dog", "owl"]) if generator.classes else None
    first = generator.draw(z, vectors)
    assert first.shape == (5, 3, 16, 16) and generator.size == 16
    assert first.abs().max() <= 1 and not first.requires_grad
    assert torch.equal(generator.draw(z, vectors), first)
    noise = generator.noise(5, seed=0)
    assert torch.equal(generator.draw(z, vectors, noise), first), "the noise of seed 0 is the default"
    close(generator.draw(z[2:3], None if vectors is None else vectors[2:3], [one[2:3] for one in noise]), first[2:3])
    assert torch.equal(generator.latents(7, seed=3)[:5], z)


def test_pictures_are_those_of_the_networks():
    generator, z = hyper(), torch.randn(4, 12)
    labels, noise = torch.tensor([2, 0, 2, 1]), generator.noise(4, 5)
    expected = generator.network(z, labels, noise).clamp(-1, 1)
    close(generator.draw(z, generator.class_vectors(labels), noise), expected)
    close(generator.draw(z, None, noise), generator.network.source(z, noise).clamp(-1, 1))
    generator = big()
    expected = generator.network(z, generator.network.embed(labels))
    close(generator.draw(z, generator.class_vectors(labels)), expected)
    generator = style()
    close(generator.draw(z, None, noise, 0.3), generator.network(z, noise, 0.3).clamp(-1, 1))


@conditional
def test_one_z_and_class_for_each_layer(make):
    generator, z = make(), torch.randn(2, 12)
    vectors = generator.vectors_of(["cat", "dog"])
    plain = generator.draw(z, vectors)

    def repeated(x):
        return x[:, None].repeat(1, generator.blocks, 1)

    close(generator.draw(repeated(z), repeated(vectors)), plain)
    close(generator.draw(repeated(z), vectors), plain)
    for changed in (0, generator.blocks - 1):
        moved = repeated(z)
        moved[:, changed] = torch.randn(12)
        assert (generator.draw(moved, vectors) - plain).abs().max() > 1e-3
    mixed = repeated(vectors)
    mixed[:, -1] = generator.vectors_of(["owl"])
    assert (generator.draw(z, mixed) - plain).abs().max() > 1e-3


def test_each_layer_of_biggan_reads_its_own_part_of_its_own_z():
    generator = big()
    z = torch.randn(1, 3, 12)
    by_hand = torch.cat([z[:, 0, :4], z[:, 1, 4:8], z[:, 2, 8:]], 1)
    vectors = generator.vectors_of(["dog"])
    close(generator.draw(z, vectors), generator.draw(by_hand, vectors))


def test_truncation():
    generator, z = big(), torch.randn(3, 12)
    vectors = generator.vectors_of(NAMES)
    close(generator.draw(z, vectors, truncation=0.4), generator.draw(0.4 * z, vectors))
    generator = hyper()
    vectors = generator.vectors_of(["cat"] * 3)
    noise = [one[:1].expand(3, -1, -1, -1) for one in generator.noise(1, 0)]
    still = generator.draw(z, vectors, noise, truncation=0.0)
    close(still[1:], still[:-1])
    assert (generator.draw(z, vectors, noise)[0] - generator.draw(z, vectors, noise)[1]).abs().max() > 1e-3


def test_arguments_that_do_not_fit_are_refused():
    generator, z = hyper(), torch.randn(2, 12)
    with pytest.raises(CourseError, match=r"takes z \(B, 12\) or \(B, 3, 12\)"):
        generator.draw(torch.randn(2, 11))
    with pytest.raises(CourseError, match="2 pictures need as many"):
        generator.draw(z, generator.vectors_of(["cat"]))
    with pytest.raises(CourseError, match=r"no class 'cow': it has cat, dog, owl"):
        generator.labels(["cow"])
    with pytest.raises(CourseError, match="has no classes"):
        style().draw(z, torch.zeros(2, 8))
    with pytest.raises(CourseError, match="has no classes"):
        style().labels(["cat"])
    with pytest.raises(CourseError, match="without a class"):
        big().draw(z)


def test_a_biggan_of_tables_has_no_class_vectors():
    generator = BigGANPictures(freeze(Generator(BigGANConfig(3, (8, 8), (8, 8), 1, 12, None, ()))), NAMES)
    with pytest.raises(CourseError, match="cannot be mixed"):
        generator.vectors_of(["cat"])
    assert generator.blocks == 1


# --- grids and walks --------------------------------------------------------------------------------------------------


@conditional
def test_a_column_of_the_class_grid_differs_in_nothing_but_the_class(make):
    generator = make()
    grid = grids.class_grid(generator, Walk(["owl", "cat"], steps=3, seed=4))
    assert grid.pictures.shape == (2, 3, 3, 16, 16) and grid.rows == ["owl", "cat"]
    z, noise = generator.latents(3, 4), generator.noise(3, 4)
    for row, name in enumerate(grid.rows):
        close(grid.pictures[row], generator.draw(z, generator.vectors_of([name] * 3), noise))


def test_the_truncation_sweep_ends_at_the_untruncated_picture():
    generator = hyper()
    grid = grids.truncation_sweep(generator, Walk(seed=2), (0.0, 0.5, 1.0))
    assert grid.rows == ["cat", "dog", "owl", "cat"] and grid.columns == ["ψ = 0", "ψ = 0.5", "ψ = 1"]
    z, noise = generator.latents(4, 2), generator.noise(4, 2)
    close(grid.pictures[:, 2], generator.draw(z, generator.vectors_of(grid.rows), noise))
    close(grid.pictures[:, 1], generator.draw(z, generator.vectors_of(grid.rows), noise, 0.5))


@every
def test_style_mixing_takes_coarse_from_the_column_and_fine_from_the_row(make):
    generator = make()
    grid = grids.style_mixing(generator, Walk(rows=2, steps=3, cut=1, seed=1))
    assert grid.pictures.shape == (3, 4, 3, 16, 16) and (grid.pictures[0, 0] == 1).all()
    z = generator.latents(5, 1)
    noise = generator.noise(1, 1)
    vectors = generator.vectors_of(["cat"]) if generator.classes else None
    mixed = torch.stack([z[4], z[1], z[1]])[None]  # third column before the cut, second row behind it
    close(grid.pictures[2, 3][None], generator.draw(mixed, vectors, noise))
    close(grid.pictures[0, 3][None], generator.draw(z[4:5], vectors, noise))
    close(grid.pictures[2, 0][None], generator.draw(z[1:2], vectors, noise))


@conditional
def test_class_mixing_shows_the_classes_on_its_diagonal(make):
    generator = make()
    grid = grids.class_mixing(generator, Walk(cut=1, seed=1))
    z, noise = generator.latents(1, 1), generator.noise(1, 1)
    for index, name in enumerate(NAMES):
        close(grid.pictures[index, index][None], generator.draw(z, generator.vectors_of([name]), noise))
    if make is hyper:
        coarse, fine = generator.vectors_of(["owl", "cat"])
        expected = generator.draw(z, torch.stack([coarse, fine, fine])[None], noise)
        close(grid.pictures[0, 2][None], expected)


@conditional
def test_a_class_walk_ends_at_its_classes(make):
    generator = make()
    grid = draw_kind(generator, "class", Walk(("dog", "owl"), steps=5, rows=2, seed=6))
    assert grid.pictures.shape == (2, 5, 3, 16, 16)
    assert grid.columns == ["dog", "0.25", "0.5", "0.75", "owl"]
    z, noise = generator.latents(2, 6), generator.noise(2, 6)
    dog, owl = (generator.vectors_of([name] * 2) for name in ("dog", "owl"))
    close(grid.pictures[:, 0], generator.draw(z, dog, noise))
    close(grid.pictures[:, 4], generator.draw(z, owl, noise))
    close(grid.pictures[:, 2], generator.draw(z, (dog + owl) / 2, noise))
    arc = draw_kind(generator, "class", Walk(("dog", "owl"), steps=5, rows=2, seed=6, spherical=True))
    close(arc.pictures[:, 2], generator.draw(z, slerp(dog, owl, 0.5), noise))


def test_a_noise_walk_takes_the_arc_unless_asked_otherwise():
    generator = style()
    grid = draw_kind(generator, "noise", Walk(steps=3, rows=2, seed=7))
    z, noise = generator.latents(4, 7), generator.noise(2, 7)
    close(grid.pictures[:, 0], generator.draw(z[::2], None, noise))
    close(grid.pictures[:, 1], generator.draw(slerp(z[::2], z[1::2], 0.5), None, noise))
    straight = draw_kind(generator, "noise", Walk(steps=3, rows=2, seed=7, spherical=False))
    close(straight.pictures[:, 1], generator.draw((z[::2] + z[1::2]) / 2, None, noise))
    close(straight.pictures[:, 2], grid.pictures[:, 2])


def test_rows_keep_their_noise_unless_asked_otherwise():
    generator = hyper()
    still = draw_kind(generator, "z-shift", Walk(("cat",), steps=3, rows=1, reach=0.0)).pictures[0]
    close(still[1:], still[:-1])
    fresh = draw_kind(generator, "z-shift", Walk(("cat",), steps=3, rows=1, fresh_noise=True, reach=0.0)).pictures[0]
    assert (fresh[0] - fresh[1]).abs().max() > 1e-3


def test_class_and_noise_together():
    generator = hyper()
    grid = draw_kind(generator, "class-noise", Walk(("cat", "owl"), steps=4, rows=3, seed=8))
    z, noise = generator.latents(2, 8), generator.noise(1, 8)
    close(grid.pictures[0, 0][None], generator.draw(z[:1], generator.vectors_of(["cat"]), noise))
    close(grid.pictures[2, 3][None], generator.draw(z[1:], generator.vectors_of(["owl"]), noise))
    assert grid.pictures.shape[:2] == (3, 4) and len(grid.rows) == 3


@conditional
def test_shifts_move_every_coordinate_alike(make):
    generator = make()
    z, vectors, noise = generator.latents(1, 0), generator.vectors_of(["dog"]), generator.noise(1, 0)
    grid = draw_kind(generator, "z-shift", Walk(("dog",), steps=3, rows=1, reach=0.5))
    close(grid.pictures[0, 2][None], generator.draw(z + 0.5, vectors, noise))
    assert grid.columns == ["-0.5", "+0", "+0.5"]
    grid = draw_kind(generator, "class-shift", Walk(("dog",), steps=3, rows=1, reach=0.2))
    close(grid.pictures[0, 0][None], generator.draw(z, vectors - 0.2, noise))
    close(grid.pictures[0, 1][None], generator.draw(z, vectors, noise))


def test_random_samples_are_all_different():
    generator = big()
    pictures = draw_kind(generator, "random-z", Walk(("cat",), steps=3, rows=2)).pictures.flatten(0, 1)
    assert len(torch.unique(pictures, dim=0)) == 6
    close(pictures, generator.draw(generator.latents(6, 0), generator.vectors_of(["cat"] * 6)))


def test_impossible_requests_are_refused():
    with pytest.raises(CourseError, match="two steps"):
        Walk(steps=1)
    with pytest.raises(CourseError, match="after layer 1 to 2, not after 3"):
        grids.style_mixing(hyper(), Walk(cut=3))
    with pytest.raises(CourseError, match="no classes to shift"):
        draw_kind(style(), "class-shift", Walk())
    with pytest.raises(CourseError, match="has no classes"):
        draw_kind(style(), "class", Walk(("cat", "dog")))


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_has_a_figure(kind):
    grid = draw_kind(hyper(), kind, Walk(steps=3, rows=2, cut=1))
    assert grid.pictures.ndim == 5 and grid.pictures.isfinite().all()
    assert len(grid.rows) in (0, len(grid.pictures)) and len(grid.columns) in (0, grid.pictures.shape[1])
    assert isinstance(grid.figure(), Figure)


def test_long_titles_of_columns_are_broken():
    grid = grids.Grid(torch.zeros(1, 2, 3, 8, 8), [], ["hand-fingers-partial", "cat"])
    first, second = grid.figure().axes
    assert first.get_title() == "hand-\nfingers-\npartial" and second.get_title() == "cat"


# --- ways -------------------------------------------------------------------------------------------------------------


def test_ways_include_their_ends():
    a, b = torch.randn(3, 9), torch.randn(3, 9)
    for spherical in (True, False):
        found = way(a, b, 5, spherical)
        assert found.shape == (3, 5, 9)
        torch.testing.assert_close(found[:, 0], a)
        torch.testing.assert_close(found[:, 4], b)
    torch.testing.assert_close(way(a, b, 3, True)[:, 1], slerp(a, b, 0.5))


def test_one_parallel_pair_does_not_straighten_the_others():
    a, b = torch.randn(2, 50), torch.randn(2, 50)
    b[0] = 2 * a[0]
    found = slerp(a, b, 0.5)
    torch.testing.assert_close(found[0], 1.5 * a[0])
    torch.testing.assert_close(found[1], slerp(a[1], b[1], 0.5))
    assert found[1].norm() == pytest.approx(((a[1].norm() + b[1].norm()) / 2).item(), rel=1e-5)


# --- opening ----------------------------------------------------------------------------------------------------------


def test_generators_open_by_name_and_by_path(tmp_path):
    network = big().network
    card = Card("toy", "biggan generator", vars(BIG), {"classes": NAMES})
    save_weights(network.state_dict(), card, tmp_path, bits=32)
    for place in (tmp_path / "toy", str(tmp_path / "toy.safetensors"), tmp_path / "toy.json"):
        generator = open_generator(place)
        assert (generator.name, generator.classes, generator.blocks) == ("toy", NAMES, 3)
        z = torch.randn(2, 12)
        close(generator.draw(z, generator.vectors_of(["cat", "owl"])), network(z, network.embed(torch.tensor([0, 2]))))
    shipped = open_generator("avatar-biggan")
    assert len(shipped.classes) == 28 and shipped.size == 64
    with pytest.raises(CourseError, match=r"avatar-judge.*not a generator"):
        open_generator("avatar-judge")
    with pytest.raises(CourseError, match="no checkpoint 'missing'"):
        open_generator(tmp_path / "missing")


def test_an_unconditional_generator_opens(tmp_path):
    network = source()
    save_weights(network.state_dict(), Card("plain", "stylegan", vars(STYLE)), tmp_path, bits=32)
    generator = open_generator(tmp_path / "plain")
    assert generator.classes == [] and generator.blocks == 3
    z = torch.randn(2, 12)
    close(generator.draw(z), network(z, generator.noise(2, 0)).clamp(-1, 1))
