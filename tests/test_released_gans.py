"""Released GANs of Hyper-Modulation: every name and shape of the files, both ways, and what the networks then draw."""

import pytest
import torch
from released_tools import as_text, export_hyper, manifest, read_manifest
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.experts import fingerprint
from course_lib.gans.stylegan import FFHQ1024, StyleGAN, StyleGANConfig, StyleGANCritic
from course_lib.hypermod import HyperGenerator
from course_lib.released.reading import export_state
from course_lib.released.stylegan import (
    class_layout,
    discriminator_layout,
    hyper_layout,
    load_released_hypermod,
    load_stylegan,
    load_stylegan_discriminator,
    stylegan_layout,
)

# Six blocks, so that the last one is fused.
SMALL = StyleGANConfig((6, 5, 5, 4, 4, 3), (6, 5, 5, 4, 4, 3), 7, 3)

FULL = {
    "base_generator": stylegan_layout(FFHQ1024),
    "base_discriminator_fromrgbact": discriminator_layout(FFHQ1024),
    "base_discriminator_nofromrgbact": discriminator_layout(FFHQ1024, activated=False),
    "discriminator_classes3": discriminator_layout(FFHQ1024, 3),
    "generator_task64": hyper_layout(FFHQ1024),
    "task64_classes1": class_layout(1),
    "task64_classes3": class_layout(3),
}


def stirred(network, seed=0):
    """No tensor stays at a value that would hide it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.requires_grad_(False)


@pytest.fixture
def base():
    return stirred(StyleGAN(SMALL))


def export_stylegan(network):
    return export_state(network, stylegan_layout(network.config))


def export_discriminator(network, classes=0):
    return export_state(network, discriminator_layout(network.config, classes))


@pytest.mark.parametrize("name", FULL)
def test_names_and_shapes_equal_the_manifest(name):
    assert as_text(FULL[name]) == manifest(name, "hypermod")


def test_our_networks_hold_exactly_what_the_files_hold():
    with torch.device("meta"):
        pairs = [
            (FULL["base_generator"], StyleGAN(FFHQ1024)),
            (FULL["base_discriminator_fromrgbact"], StyleGANCritic(FFHQ1024)),
            (FULL["discriminator_classes3"], StyleGANCritic(FFHQ1024, 3)),
        ]
    for layout, network in pairs:
        ours = {name: tensor.numel() for name, tensor in network.state_dict().items()}
        assert {e.ours: torch.Size(e.shape).numel() for e in layout.values() if e.ours} == ours


def test_what_trains_is_what_the_authors_train():
    published = read_manifest("hypermod_generator_freeze_map")
    with torch.device("meta"):
        network = HyperGenerator(StyleGAN(FFHQ1024), 1, start="random", published=True)
    layout = hyper_layout(FFHQ1024)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    assert {name for name, entry in layout.items() if entry.ours in trained} == set(published["trainable"])
    buffers = dict(network.named_buffers())
    assert {n for n, e in layout.items() if e.ours is None or e.ours in buffers} == set(published["buffers"])


def reference_picture(state, z, noise):
    """The port's generator once more, from its tensors' names alone."""

    def linear(name, x):
        weight = state[f"{name}.linear.weight_orig"]
        return x @ (weight * (2 / weight.shape[1]) ** 0.5).T + state[f"{name}.linear.bias"]

    def conv(name, x):
        weight = state[f"{name}.conv.weight_orig"]
        scaled = weight * (2 / weight[0].numel()) ** 0.5
        return F.conv2d(x, scaled, state[f"{name}.conv.bias"], padding=weight.shape[-1] // 2)

    def adain(name, x, w):
        gain, bias = linear(f"{name}.style", w).chunk(2, 1)
        deviation = (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        return gain[:, :, None, None] * (x - x.mean((2, 3), keepdim=True)) / deviation + bias[:, :, None, None]

    def half(block, which, x, w, map_):
        scale = state[f"{block}.noise{which}.weight_orig"]
        x = x + scale * (2 / scale.shape[1]) ** 0.5 * map_
        return adain(f"{block}.adain{which}", F.leaky_relu(x, 0.2), w)

    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for layer in range(1, 2 * SMALL.mapping, 2):
        w = F.leaky_relu(linear(f"style.{layer}", w), 0.2)
    x = state["generator.progression.0.conv1.input"].expand(len(z), -1, -1, -1)
    for index, map_ in enumerate(noise):
        block = f"generator.progression.{index}"
        if index:
            if map_.shape[-1] >= 128:
                weight = state[f"{block}.conv1.0.weight"]
                scaled = F.pad(weight * (2 / (9 * weight.shape[0])) ** 0.5, (1, 1, 1, 1))
                kernel = sum(scaled[..., a : a + 4, b : b + 4] for a in (0, 1) for b in (0, 1)) / 4
                x = F.conv_transpose2d(x, kernel, state[f"{block}.conv1.0.bias"], stride=2, padding=1)
                blur = state[f"{block}.conv1.1.weight"]
            else:
                x = conv(f"{block}.conv1.1", x.repeat_interleave(2, 2).repeat_interleave(2, 3))
                blur = state[f"{block}.conv1.2.weight"]
            x = F.conv2d(x, blur, padding=1, groups=len(blur))
        x = half(block, 1, x, w, map_)
        x = half(block, 2, conv(f"{block}.conv2", x), w, map_)
    return conv(f"generator.to_rgb.{len(noise) - 1}", x)


def test_the_generator_is_what_its_tensors_say(base):
    state = export_stylegan(base)
    z, noise = torch.randn(2, 7), base.synthesis.noise(2)
    torch.testing.assert_close(base(z, noise), reference_picture(state, z, noise), rtol=1e-3, atol=1e-3)


def test_a_generator_goes_through_a_file_and_back(tmp_path, base):
    other = stirred(StyleGAN(SMALL), 1)
    optimizer = torch.optim.Adam(StyleGAN(SMALL).parameters()).state_dict()
    torch.save(
        {"generator": export_stylegan(other), "g_running": export_stylegan(base), "g_optimizer": optimizer},
        tmp_path / "base.model",
    )
    loaded, plain = load_stylegan(tmp_path / "base.model"), load_stylegan(tmp_path / "base.model", averaged=False)
    assert loaded.config == SMALL and not any(p.requires_grad for p in loaded.parameters())
    assert fingerprint(loaded) == fingerprint(base) and fingerprint(plain) == fingerprint(other)
    torch.save(export_stylegan(base), tmp_path / "bare.pt")
    assert fingerprint(load_stylegan(tmp_path / "bare.pt")) == fingerprint(base)


@pytest.mark.parametrize("classes", [0, 3])
def test_a_discriminator_goes_through_a_file_and_back(tmp_path, classes):
    critic = stirred(StyleGANCritic(SMALL, max(classes, 1)))
    torch.save({"discriminator": export_discriminator(critic, classes)}, tmp_path / "d.model")
    loaded = load_stylegan_discriminator(tmp_path / "d.model")
    images = torch.randn(2, 3, 128, 128)
    labels = torch.tensor([2, 0]) if classes else None
    assert torch.equal(loaded(images, labels), critic(images, labels))


def test_a_discriminator_without_activation_is_refused(tmp_path):
    state = export_discriminator(StyleGANCritic(SMALL))
    old = {name.replace(".0.conv", ".conv") if "from_rgb" in name else name: t for name, t in state.items()}
    torch.save({"discriminator": old}, tmp_path / "old.model")
    with pytest.raises(CourseError, match="2019"):
        load_stylegan_discriminator(tmp_path / "old.model")


def test_conversion_of_the_base_is_the_published_one(base):
    """Key by key, with the operation that the authors' converter applies."""
    small = {name: tensor.double() for name, tensor in export_stylegan(base).items()}
    hyper = export_hyper(HyperGenerator(base, 2, 5, published=True, start="random"))["generator"]
    operations = {
        key: entry for key, entry in read_manifest("hypermod_key_map_base_to_hyper")["map"].items() if key in small
    }
    assert {o["op"].split(" ")[0] for o in operations.values()} == {"copy", "rename", "standardise"}
    for key, entry in operations.items():
        expected = small[key]
        if "kernel" in entry["op"]:
            expected = (expected - expected.mean((-1, -2), keepdim=True)) / expected.std((-1, -2), keepdim=True)
        elif "vector" in entry["op"]:
            expected = (expected - expected.mean()) / expected.std()
        torch.testing.assert_close(hyper[entry["to"]].double(), expected, rtol=1e-4, atol=1e-4)
    assert set(hyper) == {entry["to"] for entry in operations.values()} | {n for n in hyper if ".task" in n}


@pytest.mark.parametrize("names", [("generator", "task"), ("g_running", "t_running_g")])
def test_a_hyper_modulated_generator_goes_through_a_file_and_back(tmp_path, base, names):
    network = HyperGenerator(base, 2, 5, published=True, start="random")
    parts = export_hyper(network)
    torch.save(dict(zip(names, parts.values(), strict=True)), tmp_path / "h.model")
    loaded = load_released_hypermod(tmp_path / "h.model", base)
    z, labels, noise = torch.randn(2, 7), torch.tensor([1, 0]), base.synthesis.noise(2)
    assert torch.equal(loaded(z, labels, noise), network(z, labels, noise))
    assert torch.equal(loaded(z, None, noise), base(z, noise))
    with pytest.raises(CourseError, match="not made of this base"):
        load_released_hypermod(tmp_path / "h.model", stirred(StyleGAN(SMALL), 1))


def test_what_does_not_fit_is_named(tmp_path, base):
    state = export_stylegan(base)
    state.pop("style.1.linear.bias")
    state["generator.progression.1.conv1.2.weight"] = torch.ones(5, 1, 3, 3)
    torch.save({"g_running": state}, tmp_path / "bad.model")
    with pytest.raises(CourseError, match=r"missing style\.1\.linear\.bias"):
        load_stylegan(tmp_path / "bad.model")
    state["style.1.linear.bias"] = torch.zeros(7)
    torch.save({"g_running": state}, tmp_path / "bad.model")
    with pytest.raises(CourseError, match="binomial"):
        load_stylegan(tmp_path / "bad.model")
    with pytest.raises(CourseError, match=r"not one StyleGAN generator \(generator\)"):
        load_stylegan(tmp_path / "bad.model", averaged=False)


# --- files of fewer pixels than blocks, and precision ----------------------------------------


def untrained(state, blocks, hyper=False):
    """Later blocks as a file of fewer pixels has them: biases zero, or NaN, which is what standardising zeros gives."""
    for name, tensor in state.items():
        part = name.split(".")
        if part[1] == "progression" and int(part[2]) >= blocks and name.endswith((".conv.bias", "conv1.0.bias", ".b")):
            tensor.fill_(float("nan") if hyper else 0.0)
    return state


def test_a_file_of_fewer_pixels_draws_what_was_trained(tmp_path, base):
    torch.save({"g_running": untrained(export_stylegan(base), 4)}, tmp_path / "32px.model")
    loaded = load_stylegan(tmp_path / "32px.model")
    z, noise = torch.randn(2, 7), base.synthesis.noise(2)
    assert loaded.config.size == 32
    maps = list(base.synthesis.features(base.styles(z), noise))
    assert torch.equal(loaded(z, noise[:4]), base.synthesis.to_rgb[3](maps[3]))
    assert load_stylegan(tmp_path / "32px.model", size=128).config == SMALL
    assert load_stylegan(tmp_path / "32px.model", size=8).config.size == 8
    with pytest.raises(CourseError, match="draws 8, 16, 32, 64, 128 pixels, not 48"):
        load_stylegan(tmp_path / "32px.model", size=48)


@pytest.mark.parametrize("given", ["file", "network"])
def test_a_hyper_modulated_file_of_fewer_pixels(tmp_path, base, given):
    network = HyperGenerator(base, 2, 5, published=True, start="random")
    parts = export_hyper(network)
    untrained(parts["generator"], 4, hyper=True)
    torch.save(parts, tmp_path / "h.model")
    torch.save({"g_running": untrained(export_stylegan(base), 4)}, tmp_path / "32px.model")
    loaded = load_released_hypermod(tmp_path / "h.model", tmp_path / "32px.model" if given == "file" else base)
    z, labels, noise = torch.randn(2, 7), torch.tensor([1, 0]), base.synthesis.noise(2)
    maps = list(network.features(network.source.styles(z), network.modulation(labels), noise))
    pictures = loaded(z, labels, noise[:4])
    assert pictures.shape == (2, 3, 32, 32)
    torch.testing.assert_close(pictures, network.synthesis.to_rgb[3](maps[3]), rtol=1e-3, atol=1e-3)
    assert load_released_hypermod(tmp_path / "h.model", base, size=16)(z, labels).shape == (2, 3, 16, 16)


def test_the_base_computes_in_double_precision(base):
    state = {name: tensor.double() for name, tensor in export_stylegan(base).items()}
    z, noise = torch.randn(2, 7).double(), [one.double() for one in base.synthesis.noise(2)]
    torch.testing.assert_close(base.double()(z, noise), reference_picture(state, z, noise), rtol=1e-8, atol=1e-8)
