"""Networks in ONNX files: the same function, callable and nothing more."""

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.errors import CourseError
from course_lib.experts import (
    BlackBox,
    GridAutoencoder,
    GridAutoencoderConfig,
    TargetExpert,
    export_decoder,
    export_onnx,
    fingerprint,
    freeze,
)


class Encoder(nn.Module):
    def __init__(self, expert):
        super().__init__()
        self.expert = expert

    def forward(self, x):
        return self.expert.encode(x)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small autoencoder with lived-in batch norms, and the ONNX files of its two halves."""
    torch.manual_seed(3)
    net = GridAutoencoder(GridAutoencoderConfig(16, 2, (8, 8), (8, 8)))
    for _ in range(3):
        net(torch.rand(8, 3, 16, 16) * 2 - 1)
    net = freeze(net.to(memory_format=torch.channels_last))
    folder = tmp_path_factory.mktemp("onnx")
    before = fingerprint(net)
    encoder = export_onnx(Encoder(net), torch.zeros(2, 3, 16, 16), folder / "encoder.onnx")
    files = export_decoder(net, folder / "decoder.onnx"), encoder
    assert fingerprint(net) == before
    return net, *files


@pytest.mark.parametrize("count", [1, 2, 7])
def test_black_box_computes_the_same(exported, count):
    net, decoder, encoder = exported
    box, latent = BlackBox(decoder, encoder), torch.randn(count, 32)
    images = box.decode(latent)
    torch.testing.assert_close(images, net.decode(latent), rtol=0, atol=1e-4)
    torch.testing.assert_close(box.encode(images), net.encode(images), rtol=0, atol=1e-4)


def test_black_box_is_a_target_expert_without_gradients(exported):
    _, decoder, encoder = exported
    box = BlackBox(decoder, encoder)
    assert isinstance(box, TargetExpert) and box.latent_dim == 32
    assert not box.decode(torch.randn(2, 32, requires_grad=True)).requires_grad
    array = box.decode(np.zeros((2, 32)))
    assert isinstance(array, np.ndarray) and array.dtype == np.float32 and array.shape == (2, 3, 16, 16)
    assert np.array_equal(array, box.decode(np.zeros((2, 32)))), "the same input gives the same bits"


def test_export_is_one_file_and_the_module_keeps_its_mode(exported, tmp_path):
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9)).train()
    path = export_onnx(module, torch.zeros(2, 3), tmp_path / "layer.onnx")
    assert module.training and [p.name for p in tmp_path.iterdir()] == ["layer.onnx"]
    x = torch.randn(4, 3)
    torch.testing.assert_close(BlackBox(path).decode(x), module[0](x).detach(), rtol=0, atol=1e-6)


def test_shapes_that_do_not_fit(exported):
    _, decoder, encoder = exported
    with pytest.raises(CourseError, match=r"takes \(B, 32\)"):
        BlackBox(decoder).decode(np.zeros((2, 5)))
    with pytest.raises(CourseError, match="without an encoder"):
        BlackBox(decoder).encode(torch.zeros(1, 3, 16, 16))
    with pytest.raises(CourseError, match="does not fit"):
        BlackBox(encoder)


def test_missing_truncated_and_foreign_files(exported, tmp_path):
    _, decoder, _ = exported
    with pytest.raises(CourseError, match="there is no ONNX file"):
        BlackBox(tmp_path / "absent.onnx")
    content = decoder.read_bytes()
    for name, part in (("half", content[: len(content) // 2]), ("empty", b""), ("text", b"not a network")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(part)
        with pytest.raises(CourseError, match=f"{name}.onnx is truncated or no ONNX network"):
            BlackBox(path)
        with pytest.raises(CourseError):
            BlackBox(decoder, path)


def test_what_onnx_cannot_express(tmp_path):
    class Branch(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum() > 0 else x - 1

    with pytest.raises(CourseError, match="Branch cannot be written as ONNX"):
        export_onnx(Branch(), torch.zeros(2, 3), tmp_path / "branch.onnx")
    assert not list(tmp_path.iterdir())
