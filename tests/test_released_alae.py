"""Released ALAE and MindGAN files: every name and shape, what E and G compute, and that nothing in a pickle runs."""

import sys
import types

import pytest
import torch
from released_tools import as_text, manifest
from safetensors.torch import save_file
from torch.nn import functional as F

from course_lib.errors import CourseError
from course_lib.experts import fingerprint
from course_lib.gans.alae import ALAE, MLPALAE, PUBLISHED_ALAE, ALAEConfig, MLPALAEConfig
from course_lib.released.alae import ALAE_PARTS, alae_layouts, load_alae
from course_lib.released.reading import describe_file, export_state, read_file

# Six sizes, so that the largest block is fused.
SMALL = ALAEConfig((6, 6, 5, 4, 4, 3), 7, 2, 1)


def stirred(config=SMALL, seed=0):
    """No tensor stays at a value that would hide it."""
    generator, network = torch.Generator().manual_seed(seed), ALAE(config)
    for tensor in [*network.parameters(), network.generator.mean]:
        tensor.data += 0.3 * torch.randn(tensor.shape, generator=generator)
    return network.requires_grad_(False)


def flat(parts):
    return {f"{part}/{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def export_alae(network):
    return {part: export_state(network, layout) for part, layout in alae_layouts(network.config).items()}


@pytest.mark.parametrize("name", PUBLISHED_ALAE)
def test_names_and_shapes_equal_the_manifest(name):
    layouts = alae_layouts(PUBLISHED_ALAE[name])
    assert as_text(flat(layouts)) == manifest(f"alae_{name}", "m2m")
    with torch.device("meta"):
        ours = {key: tensor.numel() for key, tensor in ALAE(PUBLISHED_ALAE[name]).state_dict().items()}
    entries = [entry for layout in layouts.values() for entry in layout.values() if entry.ours]
    assert {e.ours: torch.Size(e.shape).numel() for e in entries} == ours


def reference_style(state, x, epsilon=0.0):
    """E once more, from its tensors' names alone."""

    def moments(x, i, half):
        read = torch.cat([x.mean((2, 3)), (x.var((2, 3), unbiased=False) + epsilon).sqrt()], 1)
        return read @ state[f"encode_block.{i}.style_{half}.weight"].T + state[f"encode_block.{i}.style_{half}.bias"]

    def norm(x):
        return (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()

    x = F.conv2d(x, state["from_rgb.0.from_rgb.weight"], state["from_rgb.0.from_rgb.bias"])
    x, total, i = F.leaky_relu(F.leaky_relu(x, 0.2), 0.2), 0, 0
    while f"encode_block.{i}.bias_1" in state:
        block = f"encode_block.{i}"
        x = F.leaky_relu(F.conv2d(x, state[f"{block}.conv_1.weight"], padding=1) + state[f"{block}.bias_1"], 0.2)
        total = total + moments(x, i, 1)
        x = F.conv2d(norm(x), state[f"{block}.blur.weight"], padding=1, groups=x.shape[1])
        x = F.avg_pool2d(F.conv2d(x, state[f"{block}.conv_2.weight"], padding=1), 2) + state[f"{block}.bias_2"]
        x = F.leaky_relu(x, 0.2)
        total, x, i = total + moments(x, i, 2), norm(x), i + 1
    return total


def reference_picture(state, w, noise):
    """G once more, from its tensors' names alone."""

    def style(x, name):
        scale, shift = (w @ state[f"{name}.weight"].T + state[f"{name}.bias"])[:, :, None, None].chunk(2, 1)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), unbiased=False, keepdim=True) + 1e-8).sqrt()
        return x * (scale + 1) + shift

    x = state["const"].expand(len(w), -1, -1, -1)
    for i, maps in enumerate(noise):
        block = f"decode_block.{i}"
        if i:
            kernel, up = state[f"{block}.conv_1.weight"], x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            if maps.shape[-1] >= 128:
                kernel = kernel.transpose(0, 1).flip(-1, -2)
            blur = state[f"{block}.blur.weight"]
            x = F.conv2d(F.conv2d(up, kernel, padding=1), blur, padding=1, groups=len(blur))
        for half in (1, 2):
            if half == 2:
                x = F.conv2d(x, state[f"{block}.conv_2.weight"], padding=1)
            x = x + state[f"{block}.noise_weight_{half}"] * maps[:, half - 1 : half] + state[f"{block}.bias_{half}"]
            x = style(F.leaky_relu(x, 0.2), f"{block}.style_{half}")
    last = len(noise) - 1
    return F.conv2d(x, state[f"to_rgb.{last}.to_rgb.weight"], state[f"to_rgb.{last}.to_rgb.bias"])


def test_encoder_and_decoder_are_what_their_tensors_say():
    network = stirred()
    parts = export_alae(network)
    images, w, noise = torch.randn(2, 1, 128, 128), torch.randn(2, 7), network.generator.decoder.noise(2)
    close = {"rtol": 1e-3, "atol": 1e-3}
    torch.testing.assert_close(network.encode(images), reference_style(parts["discriminator"], images), **close)
    pictures = network.generator.decoder(w, noise)
    torch.testing.assert_close(pictures, reference_picture(parts["generator"], w, noise), **close)


class Tracker:
    """Stands for the class of the authors' project whose instances are in their files."""

    def __init__(self):
        self.mean = torch.zeros(3)


@pytest.fixture
def released_file(tmp_path, monkeypatch):
    """A file as ALAE's code writes it: nine networks, optimisers, and instances of a class of its own."""
    raw, average = stirred(seed=0), stirred(seed=1)
    models = export_alae(raw) | {
        f"{name}_s": state for name, state in export_alae(average).items() if name != "dlatent_avg"
    }
    module = types.ModuleType("tracker")
    kind = type("RunningMeanTorch", (), {"__module__": "tracker", "__init__": Tracker.__init__})
    module.RunningMeanTorch = kind
    monkeypatch.setitem(sys.modules, "tracker", module)
    optimizer = torch.optim.Adam(raw.parameters()).state_dict()
    auxiliary = {"encoder_optimizer": optimizer, "tracker": {"tracks": {"loss": kind()}}}
    torch.save({"models": models, "auxiliary": auxiliary}, tmp_path / "model_final.pth")
    monkeypatch.delitem(sys.modules, "tracker")
    return tmp_path / "model_final.pth", raw, average


def test_a_file_of_the_authors_opens_although_it_holds_a_class(released_file):
    path, raw, average = released_file
    assert set(read_file(path).parts) == {*ALAE_PARTS, *(f"{name}_s" for name in ALAE_PARTS if name != "dlatent_avg")}
    loaded, plain = load_alae(path), load_alae(path, averaged=False)
    average.generator.mean.copy_(raw.generator.mean)
    assert fingerprint(plain) == fingerprint(raw) and fingerprint(loaded) == fingerprint(average)
    assert loaded.config == SMALL and "tracker" not in sys.modules
    with pytest.raises(CourseError, match="no released ALAE"):
        load_alae(path, "ffqh")
    with pytest.raises(CourseError, match="does not fit"):
        load_alae(path, "mnist")


def test_safetensors_with_slashes_open_too(tmp_path):
    network = stirred()
    save_file(flat(export_alae(network)), tmp_path / "alae.safetensors")
    assert fingerprint(load_alae(tmp_path / "alae.safetensors")) == fingerprint(network)


# --- the version without convolutions ----------------------------------------


@pytest.fixture
def digits_alae():
    torch.manual_seed(0)
    network = MLPALAE(MLPALAEConfig(8, 32, 3))
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    network.generator.mean.normal_()
    return network.requires_grad_(False)


def test_the_version_without_convolutions_has_the_names_of_the_authors_branch():
    layouts = alae_layouts(MLPALAEConfig())
    found = {name: entry.shape for name, entry in flat(layouts).items()}
    ends = {
        "discriminator": ((1024, 784), (1024, 1024), (50, 1024)),
        "generator": ((1024, 50), (1024, 1024), (784, 1024)),
    }
    expected = {f"{part}/fc_{k + 1}.weight": shape for part, shapes in ends.items() for k, shape in enumerate(shapes)}
    expected |= {f"mapping_tl/map_blocks.{k}.weight": (50, 50) for k in range(3)}
    expected |= {f"mapping_fl/map_blocks.{k}.fc.weight": (50, 50) for k in range(6)}
    expected |= {name.replace("weight", "bias"): shape[:1] for name, shape in expected.items()}
    assert found == expected | {"dlatent_avg/buff": (1, 50)}


@pytest.mark.parametrize("mean", [True, False])
def test_the_version_without_convolutions_opens_from_a_file(tmp_path, digits_alae, mean):
    models = export_alae(digits_alae)
    models["dlatent_avg"]["buff"] = models["dlatent_avg"]["buff"].repeat(6, 1)  # one for each slot of a styled decoder
    if not mean:  # early revisions keep none
        del models["dlatent_avg"]
        digits_alae.generator.mean.zero_()
    torch.save(
        {"models": {**models, "generator_s": models["generator"]}, "auxiliary": {}}, tmp_path / "model_final.pth"
    )
    assert describe_file(tmp_path / "model_final.pth").count("of ALAE without convolutions") == 4
    loaded = load_alae(tmp_path / "model_final.pth")
    assert isinstance(loaded, MLPALAE) and loaded.config == digits_alae.config
    assert fingerprint(loaded) == fingerprint(digits_alae)


# --- precision ----------------------------------------


def test_the_encoder_computes_in_double_precision():
    """Against its tensors' names once more, with the 1e-8 under the root that keeps its gradient finite."""
    network = stirred()
    state = {name: tensor.double() for name, tensor in export_alae(network)["discriminator"].items()}
    images = torch.randn(1, 1, 128, 128, dtype=torch.float64)
    torch.testing.assert_close(
        network.double().encode(images), reference_style(state, images, 1e-8), rtol=1e-9, atol=1e-9
    )
