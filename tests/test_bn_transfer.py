"""Class propagation: both published variants and ours, what trains in which stage, and what a new class costs."""

import gzip
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from released_tools import export_transfer
from safetensors.torch import save_file
from torch.nn import functional as F

from course_lib.bn_transfer import (
    Propagation,
    TransferGenerator,
    fit_mixtures,
    penalty,
    set_stage,
    stage_table,
    with_new_classes,
)
from course_lib.errors import CourseError
from course_lib.experts import fingerprint
from course_lib.gans.biggan import CIFAR32, IMAGENET128, BigGANConfig, ClassNorm, Discriminator, Generator, SNLinear
from course_lib.released.biggan import (
    load_released_transfer,
    load_released_transfer_discriminator,
    transferred_discriminator_layout,
    transferred_layout,
)

MANIFESTS = Path(__file__).parent / "manifests"
SHARED = BigGANConfig(7, (16, 16, 8, 8), (8, 8, 16, 16), 3, 16, 6, (16,))
TABLE = replace(SHARED, embedding=None, sn_eps=1e-8)
NEW = 3


def manifest(name):
    return json.loads(gzip.decompress((MANIFESTS / f"cgan_transfer_{name}.json.gz").read_bytes()))


@torch.no_grad()
def source(config, seed=0, dtype=torch.float32):
    """A generator in which no tensor is at a value that would hide it."""
    torch.manual_seed(seed)
    generator = Generator(config)
    for name, tensor in generator.state_dict().items():
        if name.endswith("stored_var"):
            tensor.uniform_(0.5, 2.0)
        elif name.endswith(("stored_mean", "gain", "output_layer.0.bias")):
            tensor.add_(0.3 * torch.randn_like(tensor))
    generator.train()
    for _ in range(3):  # spectral vectors and running statistics that are not those of the beginning
        labels = torch.randint(config.classes, (8,))
        generator(torch.randn(8, config.noise), generator.embed(labels))
    return generator.to(dtype).eval()


def fill(generator, seed=1):
    """Random values everywhere in what is new."""
    draw = torch.Generator().manual_seed(seed)
    for part in generator.propagations():
        for parameter in part.parameters():
            with torch.no_grad():
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype))


def sigma(weight, u0, eps):
    """Largest singular value after one step from ``u0``, as the published layer computes it."""
    v = F.normalize(u0 @ weight, eps=eps)
    return (v @ weight.T @ F.normalize(v @ weight.T, eps=eps).T).squeeze()


# --- formulas, computed anew ------------------------------------------------------------------------------------------


def test_imagenet_variant_is_the_published_formula():
    torch.manual_seed(0)
    base = Generator(SHARED).double().eval()
    old, embedding = base.blocks[1][0].bn2.gain, base.shared.weight
    layer = Propagation(old, embedding, NEW, "imagenet").double().eval()
    p = dict(layer.named_parameters()) | dict(layer.named_buffers())
    width = embedding.shape[1]
    assert torch.equal(p["table.weight"], old.weight[:, :width] @ embedding.T)
    assert torch.equal(p["noise.weight"], old.weight[:, width:]) and "table.bias" not in p
    z = torch.randn(5, SHARED.chunk).double()
    for index in range(NEW):
        e = F.one_hot(torch.full((5,), index), NEW).double()
        a = p["mixing.weight"] / sigma(p["mixing.weight"], p["mixing.u0"], 1e-12) @ e[0] + p["mixing.bias"]
        offset = p["table.weight"] / sigma(p["table.weight"], p["table.u0"], SHARED.sn_eps) @ a
        z_map = p["noise.weight"] / sigma(p["noise.weight"], p["noise.u0"], 1e-12)
        expected = offset + z @ z_map.T + p["noise.bias"] + p["residual.weight"][:, index]
        assert torch.allclose(layer(torch.cat([e, z], 1)), expected, atol=1e-12, rtol=0)


def test_cifar_variant_is_the_published_formula():
    torch.manual_seed(0)
    base = Generator(TABLE).double().eval()
    old = base.blocks[1][0].bn2.bias
    layer = Propagation(old, None, NEW, "cifar").double()
    p = dict(layer.named_parameters())
    assert torch.equal(p["table.weight"], old.weight.T) and layer.noise is None
    for index in range(NEW):
        a = p["mixing.weight"][:, index] + p["mixing.bias"]
        expected = p["table.weight"] @ a + p["table.bias"] + p["residual.weight"][:, index]
        found = layer(F.one_hot(torch.tensor([index]), NEW).double())[0]
        assert torch.allclose(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("config", [SHARED, TABLE])
def test_our_variant_is_the_published_one_with_the_scale_of_the_checkpoint(config):
    torch.manual_seed(0)
    base = Generator(config).double().eval()
    old, embedding = base.blocks[0][0].bn1.gain, base.shared.weight if config.embedding else None
    layer = Propagation(old, embedding, NEW).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    p = dict(layer.named_parameters())
    if embedding is None:
        table, z_map, z = old.weight.T, torch.zeros(16, 0), torch.zeros(1, 0)
    else:
        kept = old.weight / sigma(old.weight, old.u0, config.sn_eps)
        table, z_map, z = kept[:, :6] @ embedding.T, kept[:, 6:], torch.randn(1, config.chunk)
    z_map, z = z_map.double(), z.double()
    for index in range(NEW):
        a = p["mixing.weight"][:, index] + p["mixing.bias"]
        expected = (table + p["update.weight"]) @ a + p["residual.weight"][:, index]
        if embedding is not None:
            expected = expected + (z_map + p["noise.weight"]) @ z[0] + p["noise.bias"]
        found = layer(torch.cat([F.one_hot(torch.tensor([index]), NEW).double(), z], 1))[0]
        assert torch.allclose(found, expected, atol=1e-12, rtol=0)


def test_the_gain_is_one_plus_the_offset():
    norm = ClassNorm(4, 3, 5).double().eval()
    norm.gain = Propagation(norm.gain, torch.randn(5, 2).double(), NEW).double()
    norm.bias = Propagation(norm.bias, torch.randn(5, 2).double(), NEW).double()
    x, condition = torch.randn(2, 4, 3, 3).double(), torch.randn(2, NEW + 1).double()
    gain, bias = norm.gain(condition), norm.bias(condition)
    expected = x / (1 + 1e-5) ** 0.5 * (1 + gain)[:, :, None, None] + bias[:, :, None, None]
    assert torch.allclose(norm(x, condition), expected)


# --- old classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SHARED, TABLE])
def test_a_one_hot_start_is_an_old_class_bit_for_bit(config):
    base = source(config)
    generator = TransferGenerator(base, NEW).eval()
    picked = torch.tensor([5, 0, 3])
    generator.init_at(F.one_hot(picked, 7).float())
    z, labels = torch.randn(6, 16), torch.arange(6) % NEW
    assert torch.equal(generator(z, generator.embed(labels)), base(z, base.embed(picked[labels])))
    assert torch.equal(generator.old(z, picked[labels]), base(z, base.embed(picked[labels])))


def test_the_published_imagenet_variant_cannot_copy_an_old_class():
    base = source(SHARED)
    generator = TransferGenerator(base, NEW, "imagenet").eval()
    picked = torch.tensor([5, 0, 3])
    generator.init_at(F.one_hot(picked, 7).float())
    z = torch.randn(NEW, 16)
    assert not torch.allclose(generator(z, generator.embed(torch.arange(NEW))), base(z, base.embed(picked)), atol=1e-2)


def test_a_mixture_of_old_classes_is_that_of_their_embeddings():
    base = source(SHARED)
    weights = torch.rand(2, 7).softmax(1)
    generator = TransferGenerator(base, 2).eval()
    generator.init_at(weights)
    z = torch.randn(2, 16)
    expected = base(z, weights @ base.shared.weight)
    assert torch.allclose(generator(z, generator.embed(torch.arange(2))), expected, atol=1e-5)


def train_step(generator, lr=0.05):
    """One step of an arbitrary loss on what requires gradients."""
    trained = [p for p in generator.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr)
    generator.train()
    labels = torch.arange(6) % NEW
    loss = (generator(torch.randn(6, 16), generator.embed(labels)) * torch.randn(6, 3, 32, 32)).sum()
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize("variant", ["additive", "imagenet"])
@pytest.mark.parametrize("stages", [("bn",), ("free",), ("bn", "ft")])
def test_old_classes_are_drawn_as_before_after_training(variant, stages):
    base = source(SHARED)
    before, z, labels = fingerprint(base), torch.randn(7, 16), torch.arange(7)
    pictures = base(z, base.embed(labels))
    generator = TransferGenerator(base, NEW, variant)
    kept = fingerprint(generator.source)
    for stage in stages:
        train_step(set_stage(generator, stage))
    assert torch.equal(generator.old(z, labels), pictures)
    assert fingerprint(generator.source) == kept and fingerprint(base) == before
    new = generator.eval()(z, generator.embed(labels % NEW))
    generator.train()
    with torch.no_grad():  # and new classes have statistics of their own
        generator(torch.randn(6, 16) * 3, generator.embed(torch.arange(6) % NEW))
    assert not torch.equal(generator.eval()(z, generator.embed(labels % NEW)), new)
    assert torch.equal(generator.old(z, labels), pictures)


def test_a_copy_is_independent_and_shares_inside_itself():
    generator = TransferGenerator(source(SHARED), NEW)
    copy = deepcopy(generator)
    assert copy.shared and copy.target.linear is not generator.target.linear
    set_stage(copy, "ft")
    assert not copy.shared and generator.shared
    copy.train()
    assert copy.target.linear.training and not copy.source.linear.training and not generator.target.linear.training


# --- stages -----------------------------------------------------------------------------------------------------------

FROZEN_BN = ("conv", "linear", "theta", "phi", ".g.", ".o.", "gamma", "output_layer")
MIXING = ("mixing", "table", "update")


@pytest.mark.parametrize("config", [SHARED, TABLE])
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("stage", ["bn", "ft", "free"])
def test_one_step_moves_exactly_what_the_stage_names(config, published, stage):
    variant = ("imagenet" if config.embedding else "cifar") if published else "additive"
    generator = set_stage(TransferGenerator(source(config), NEW, variant), stage)
    fill(generator)
    with torch.no_grad():  # an attention that is switched off has no gradients inside
        generator.target.blocks[1][1].gamma.fill_(0.5)
    before = {name: p.clone() for name, p in generator.named_parameters()}
    train_step(generator)
    for name, parameter in generator.named_parameters():
        mixing = any(word in name for word in MIXING)
        inside = "gain." in name or "bias." in name
        expected = (
            not name.startswith("source.")
            and {
                "bn": inside,
                "ft": not mixing,
                "free": inside and not mixing,
            }[stage]
        )
        assert parameter.requires_grad == expected, name
        assert torch.equal(parameter, before[name]) != expected, name
    rows = stage_table(generator)
    assert sum(row[1] for row in rows) == sum(p.numel() for p in generator.parameters())
    moved = sum(p.numel() for name, p in generator.named_parameters() if not torch.equal(p, before[name]))
    trained = sum(row[1] for row in rows if row[2])
    assert trained == sum(p.numel() for p in generator.parameters() if p.requires_grad)
    assert 0.5 * trained < moved <= trained


def test_in_our_bn_stage_nothing_of_the_old_network_moves_not_even_spectral_vectors():
    generator = set_stage(TransferGenerator(source(SHARED), NEW), "bn")
    before = {name: t.clone() for name, t in generator.state_dict().items()}
    train_step(generator)
    moved = {name for name, t in generator.state_dict().items() if not torch.equal(t, before[name])}
    words = ("mixing", "update", "noise", "residual", "stored_mean", "stored_var")
    assert moved and all(name.startswith("target.") and any(word in name for word in words) for name in moved)


def test_unknown_stages_variants_and_shapes_are_refused():
    generator = TransferGenerator(source(SHARED), NEW)
    with pytest.raises(CourseError, match="stage"):
        set_stage(generator, "all")
    with pytest.raises(CourseError, match="variant"):
        TransferGenerator(source(SHARED), NEW, "cifar10")
    with pytest.raises(CourseError, match="tables"):
        TransferGenerator(source(TABLE), NEW, "imagenet")
    with pytest.raises(CourseError, match="mixtures"):
        generator.init_at(torch.zeros(NEW, 6))
    with pytest.raises(CourseError, match="class weights"):
        generator(torch.randn(2, 16), torch.randn(2, 5))
    with pytest.raises(CourseError, match="new class"):
        TransferGenerator(source(SHARED), 0)


def test_penalty_is_a_mean_over_each_tensor_and_a_sum_over_tensors():
    generator = TransferGenerator(source(SHARED), NEW)
    fill(generator)
    parts = list(generator.propagations())
    assert len(parts) == 12  # three blocks, two norms, gain and bias
    l1 = sum(t.abs().mean() for part in parts for t in (part.mixing.weight, part.mixing.bias))
    l2 = sum(part.residual.weight.square().mean() for part in parts)
    assert penalty(generator, 0.3, 0.7).item() == pytest.approx((0.3 * l1 + 0.7 * l2).item(), rel=1e-5)


# --- published sizes and files ----------------------------------------------------------------------------------------


def test_a_new_class_costs_what_the_facts_say():
    one, two = (TransferGenerator(source(SHARED), new) for new in (1, 2))
    more = sum(p.numel() for p in two.parameters()) - sum(p.numel() for p in one.parameters())
    widths = [16, 16, 16, 8, 8, 8]  # of the six batch norms
    assert more == 2 * sum(7 + width for width in widths)


@pytest.mark.parametrize(
    ("config", "new", "name", "parameters"),
    [
        (IMAGENET128, 5, "I128_5from1000", (85_722_372, 86_454_050)),
        (IMAGENET128, 20, "I128_20from1000", (86_244_132, 86_477_090)),
        (replace(CIFAR32, classes=80), 20, "cifar_20from80", (4_849_859, 4_209_921)),
    ],
)
def test_names_shapes_and_order_are_the_published_ones(config, new, name, parameters):
    buffers = (".u0", ".sv0", "stored_mean", "stored_var", "pretrain_embedding_w")  # the last is shared.weight again
    layouts = (transferred_layout, transferred_discriminator_layout)
    for layout, kind, total in zip(layouts, "GD", parameters, strict=True):
        found = {key: [list(entry.shape), "float32"] for key, entry in layout(config, new).items()}
        expected = manifest(f"{name}_{kind}")
        assert found == expected and list(found) == list(expected)
        sizes = [torch.Size(shape).numel() for key, (shape, _) in found.items() if not key.endswith(buffers)]
        assert sum(sizes) == total


@pytest.mark.parametrize("config", [SHARED, TABLE])
def test_released_files_open_with_the_same_function_and_are_written_back(config, tmp_path):
    torch.manual_seed(3)
    generator = TransferGenerator(source(config), NEW, "imagenet" if config.embedding else "cifar")
    train_step(set_stage(generator, "ft"))
    generator.eval()
    state = export_transfer(generator)
    torch.save(state, tmp_path / "G.pth")
    found = load_released_transfer(tmp_path / "G.pth", config)
    z, labels = torch.randn(4, 16), torch.arange(4) % NEW
    assert torch.equal(found(z, found.embed(labels)), generator(z, generator.embed(labels)))
    again = export_transfer(found)
    assert list(again) == list(state) and all(torch.equal(again[name], state[name]) for name in state)
    base = source(config)
    found = load_released_transfer(tmp_path / "G.pth", base=base)
    assert torch.equal(found(z, found.embed(labels)), generator(z, generator.embed(labels)))
    assert torch.equal(found.old(z, labels), base(z, base.embed(labels)))


def test_a_released_file_that_does_not_fit_is_refused(tmp_path):
    state = export_transfer(TransferGenerator(source(TABLE), NEW, "cifar"))
    state["blocks.0.0.bn1.comb_layer_g.extra"] = torch.zeros(1)
    save_file(state, tmp_path / "G.safetensors")
    with pytest.raises(CourseError, match=r"unknown blocks\.0\.0\.bn1\.comb_layer_g\.extra"):
        load_released_transfer(tmp_path / "G.safetensors", TABLE)
    with pytest.raises(CourseError, match=r"sizes|no cGANTransfer|holds"):
        save_file({"shared.weight": torch.zeros(2, 2)}, tmp_path / "H.safetensors")
        load_released_transfer(tmp_path / "H.safetensors")


# --- discriminator and start ------------------------------------------------------------------------------------------


def test_the_discriminator_keeps_all_but_its_class_embedding(tmp_path):
    torch.manual_seed(0)
    old = Discriminator(SHARED).eval()
    new = with_new_classes(old, NEW)
    state = old.state_dict()
    for name, tensor in new.state_dict().items():
        assert name == "embed.sv0" or torch.equal(tensor, state[name]) != name.startswith("embed."), name
    mixtures = torch.rand(NEW, 7)
    assert torch.allclose(with_new_classes(old, NEW, mixtures).embed.weight, mixtures @ old.embed.weight)
    with pytest.raises(CourseError, match="mixtures"):
        with_new_classes(old, NEW, mixtures.T)
    file = {name.replace("embed.", "new_embed."): tensor for name, tensor in new.state_dict().items()}
    torch.save(file, tmp_path / "D.pth")
    found = load_released_transfer_discriminator(tmp_path / "D.pth", SHARED)
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4) % NEW
    assert torch.equal(found(images, labels), new.eval()(images, labels))


def test_mixtures_find_what_they_were_made_of():
    draw = torch.Generator().manual_seed(0)
    old = torch.randn(6, 40, generator=draw)
    weights = torch.tensor([[0.7, 0.3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]])
    found = fit_mixtures(weights @ old, old, ridge=0.0)
    assert torch.allclose(found, weights, atol=1e-3)
    shrunk = fit_mixtures(weights @ old, old, ridge=3.0)
    assert torch.allclose(shrunk.sum(1), torch.ones(2), atol=1e-5) and (shrunk >= 0).all()
    assert shrunk.max() < found.max() and torch.equal(shrunk.argmax(1), weights.argmax(1))


def test_mixing_weights_with_spectral_norm_are_reported_as_the_layer_uses_them():
    layer = Propagation(SNLinear(8, 4, bias=False).eval(), torch.randn(7, 6), NEW, "imagenet").train()
    layer(torch.randn(2, NEW + 2))
    before = fingerprint(layer)
    found = layer.mixing_weights()
    assert fingerprint(layer) == before and layer.mixing.training
    assert torch.equal(found, layer.eval().mixing(torch.eye(NEW))) and found.shape == (NEW, 7)
