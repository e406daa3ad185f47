"""The parts of the cINN: ActNorm, activation, coupling, shuffle, embedders, configuration, loss."""

import math

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.cinn import ActNorm, AffineCoupling, FlowConfig, FullyConnectedNet, Shuffle, flow_loss
from course_lib.cinn.flow import build_embedder
from course_lib.cinn.layers import ConvEmbedder, DenseEmbedder, InvertibleLeakyReLU, TaperedEmbedder
from course_lib.errors import CourseError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def randomised(module, seed=0):
    """Away from the identity and from torch's small initial weights, where an inverse would prove little."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded(seed), dtype=torch.float64))
    return module


def jacobian_log_det(function, x):
    """``log|det|`` per sample, from autograd."""
    rows = [torch.autograd.functional.jacobian(lambda row: function(row[None])[0], sample) for sample in x]
    return torch.linalg.slogdet(torch.stack(rows))[1]


@pytest.mark.parametrize("shape", [(64, 5), (8, 5, 4, 3)])
def test_actnorm_leaves_the_first_batch_with_mean_0_and_std_1(shape):
    x = 100 + 7 * normal(*shape)
    y, _ = ActNorm(5).double()(x)
    values = y.transpose(0, 1).flatten(1)
    assert values.mean(1).abs().max() < 1e-9
    assert (values.std(1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 5)])
def test_actnorm_inverse_and_log_det(shape):
    layer = ActNorm(3).double()
    layer(2 + 3 * normal(*shape))
    x = normal(*shape, seed=1)
    y, log_det = layer(x)
    assert torch.allclose(layer.inverse(y), x, atol=1e-12)
    flat = jacobian_log_det(lambda row: layer(row.view(1, *shape[1:]))[0].flatten(1), x.flatten(1))
    assert torch.allclose(log_det, flat, atol=1e-10)


def test_actnorm_sets_itself_once_and_only_in_training():
    layer = ActNorm(3).eval()
    x = 5 + normal(8, 3).float()
    assert torch.equal(layer(x)[0], x)
    assert not layer.is_initialized
    layer.train()
    layer(x)
    loc = layer.loc.clone()
    layer(x * 10)
    assert torch.equal(layer.loc, loc)
    fresh = ActNorm(3)
    fresh.load_state_dict(layer.state_dict())
    assert fresh.is_initialized
    fresh.load_state_dict(ActNorm(3).state_dict())
    assert not fresh.is_initialized


def test_actnorm_refuses_one_sample_wrong_shapes_and_an_early_inverse():
    with pytest.raises(CourseError, match="one sample"):
        ActNorm(3)(torch.zeros(1, 3))
    with pytest.raises(CourseError, match="3 channels"):
        ActNorm(3)(torch.zeros(4, 2))
    with pytest.raises(CourseError, match="has not seen a batch"):
        ActNorm(3).inverse(torch.zeros(4, 3))
    assert ActNorm(3)(torch.rand(1, 3, 2, 2))[0].isfinite().all()


def _actnorm_worker(rank, address, queue):
    torch.distributed.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    # Parts of unequal size: an average of the parts' statistics would be wrong.
    part = (5 + 3 * normal(10, 4)).split([3, 7])[rank]
    layer = ActNorm(4).double()
    layer(part)
    queue.put((rank, layer.loc.tolist(), layer.scale.tolist()))
    torch.distributed.destroy_process_group()


def test_actnorm_in_two_processes_equals_one_on_the_joined_batch(tmp_path):
    queue = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_actnorm_worker, args=(str(tmp_path / "rendezvous"), queue), nprocs=2)
    results = [queue.get() for _ in range(2)]
    single = ActNorm(4).double()
    single(5 + 3 * normal(10, 4))
    for _, loc, scale in results:
        assert torch.allclose(torch.tensor(loc, dtype=torch.float64), single.loc, atol=1e-12)
        assert torch.allclose(torch.tensor(scale, dtype=torch.float64), single.scale, atol=1e-12)


@given(alpha=st.floats(0.1, 3.0), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_leaky_relu_inverts_and_counts_its_negatives(alpha, seed):
    layer, x = InvertibleLeakyReLU(alpha), normal(3, 5, seed=seed)
    y, log_det = layer(x)
    assert torch.allclose(layer.inverse(y), x, atol=1e-12)
    assert torch.allclose(log_det, jacobian_log_det(lambda row: layer(row)[0], x), atol=1e-10)
    assert torch.equal(InvertibleLeakyReLU(alpha, count_log_det=False)(x)[1], torch.zeros(3, dtype=torch.float64))


@given(dim=st.integers(2, 9), width=st.integers(1, 6), depth=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_coupling_inverts_and_reports_its_volume_for_even_and_odd_sizes(dim, width, depth, seed):
    coupling = randomised(AffineCoupling(dim, width, lambda i, o: FullyConnectedNet(i, o, 6, depth)), seed)
    x, e = normal(3, dim, seed=seed), normal(3, width, seed=seed + 1)
    y, log_det = coupling(x, e)
    assert torch.allclose(coupling.inverse(y, e), x, atol=1e-9)
    expected = torch.cat(
        [jacobian_log_det(lambda row, k=k: coupling(row, e[k : k + 1])[0], x[k : k + 1]) for k in (0, 1, 2)]
    )
    assert (log_det - expected).abs().max() < 1e-8
    assert log_det.abs().max() <= dim


def test_shuffle_is_a_permutation_that_its_state_carries():
    shuffle, x = Shuffle(9, seeded(1)), normal(4, 9)
    assert torch.equal(shuffle.inverse(shuffle(x)), x)
    assert torch.equal(shuffle(x).sort(1).values, x.sort(1).values)
    other = Shuffle(9, seeded(2))
    assert not torch.equal(other(x), shuffle(x))
    other.load_state_dict(shuffle.state_dict())
    assert torch.equal(other(x), shuffle(x))


def test_fully_connected_net_has_depth_plus_two_layers():
    net = FullyConnectedNet(3, 5, 8, 2, batch_norm=True)
    layers = [*net.hidden, net.out]
    assert [tuple(layer.weight.shape) for layer in layers] == [(8, 3), (8, 8), (8, 8), (5, 8)]
    assert net(torch.randn(4, 3)).shape == (4, 5) and len(net.norms) == 3


def test_tapered_embedder_widths():
    assert TaperedEmbedder(2048, 128, 6).sizes == (2048, 1664, 1280, 896, 512, 128)
    assert TaperedEmbedder(3, 4, 3)(torch.randn(5, 3, 1, 1)).shape == (5, 4)


@pytest.mark.parametrize(("size", "steps"), [(224, 5), (56, 4), (28, 3), (14, 2), (7, 1), (2, 0)])
def test_conv_embedder_shrinks_as_the_authors_did(size, steps):
    assert FlowConfig(4, (2, size, size)).downsamplings == steps


@pytest.mark.parametrize(
    ("shape", "kind"), [((5,), DenseEmbedder), ((5, 1, 1), TaperedEmbedder), ((2, 16, 9), ConvEmbedder)]
)
def test_the_embedder_follows_the_shape_of_the_condition(shape, kind):
    embedder = build_embedder(FlowConfig(6, shape, 10))
    assert isinstance(embedder, kind)
    assert embedder(torch.randn(3, *shape)).shape == (3, 10)


def test_dense_embedder_with_batch_norm_refuses_one_sample():
    embedder = DenseEmbedder(3, 4, batch_norm=True)
    with pytest.raises(CourseError, match="at least 2 samples"):
        embedder(torch.randn(1, 3))
    assert embedder.eval()(torch.randn(1, 3)).shape == (1, 4)


def test_config_goes_through_json_and_refuses_the_impossible():
    import json

    config = FlowConfig(6, (2, 8, 8), embedding_dim=5, activation="leaky_relu")
    assert FlowConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    for wrong in (
        {"dim": 1},
        {"blocks": 0},
        {"condition_shape": (2, 3)},
        {"condition_shape": (2, 8, 8), "embedder_batch_norm": True},
        {"activation": "relu"},
    ):
        with pytest.raises(CourseError, match="FlowConfig"):
            FlowConfig(**{"dim": 4, "condition_shape": (3,), **wrong})
    with pytest.raises(CourseError, match="unknown"):
        FlowConfig.from_dict({"dim": 4, "condition_shape": (3,), "width": 3})
    older = config.to_dict() | {"embedder": "auto", "activation_slope": 0.9, "embedder_downsamplings": None}
    assert FlowConfig.from_dict(older) == config, "an older card"


def test_loss_sums_over_coordinates_and_averages_over_the_batch():
    v, log_det = normal(50, 128), normal(50, seed=3)
    assert math.isclose(flow_loss(v, log_det), 0.5 * (v**2).sum() / 50 - log_det.mean())
    with pytest.raises(CourseError, match="both outputs"):
        flow_loss(v, log_det[:, None])
