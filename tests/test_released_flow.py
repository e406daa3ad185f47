"""Released Net2Net flows: names and shapes, the round trip through a file, flows without condition."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from released_tools import manifest
from safetensors.torch import save_file
from torch.nn import functional as F

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError
from course_lib.released.net2net import RELEASED_FLOWS, flow_layout, load_net2net_flow
from course_lib.released.reading import export_state, identify

SMALL = FlowConfig(6, (3,), 4, hidden_dim=8, blocks=2, embedder_hidden_dim=5, embedder_batch_norm=True)


def described(config):
    return {key: (entry.shape, str(entry.dtype).removeprefix("torch.")) for key, entry in flow_layout(config).items()}


def export_flow(flow):
    return export_state(flow, flow_layout(flow.config))


def small_flow():
    flow = ConditionalFlow(SMALL, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    flow(3 * torch.randn(16, 6, generator=generator) + 1, torch.randn(16, 3, generator=generator))
    return flow.eval()


@pytest.mark.parametrize("name", RELEASED_FLOWS)
def test_names_and_shapes_equal_the_manifest(name):
    assert described(RELEASED_FLOWS[name]) == manifest(f"flow_{name}")


@pytest.mark.parametrize("name", RELEASED_FLOWS)
def test_sizes_are_read_off_full_size_shapes(name):
    with torch.device("meta"):
        state = {
            key: torch.empty(entry.shape, dtype=entry.dtype) for key, entry in flow_layout(RELEASED_FLOWS[name]).items()
        }
    kind, state = identify(state)
    assert kind.fit(state)[0] == RELEASED_FLOWS[name] == kind.fit(state, name)[0]


def test_parameter_counts_of_the_released_flows():
    counts = {}
    for name, config in RELEASED_FLOWS.items():
        with torch.device("meta"):
            counts[name] = sum(parameter.numel() for parameter in ConditionalFlow(config).parameters())
    assert counts == {
        "anime": 179_469_578,
        "portraits": 179_469_578,
        "ccfq": 179_469_834,
        "faces32to256": 189_198_720,
        "sbert_ae": 252_439_040,
        "sbert_bigbigan": 239_056_640,
        "sbert_biggan": 254_737_036,
    }


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dense_embedder_example_2048_128_d6", FlowConfig(4, (2048, 1, 1), 128, embedder_depth=4, blocks=1)),
        ("conv_embedder_example_56_256_128_n4", FlowConfig(4, (256, 56, 56), 128, blocks=1)),
    ],
)
def test_embedders_equal_their_manifest(name, config):
    ours = {k.removeprefix("embedder."): v for k, v in described(config).items() if k.startswith("embedder.")}
    assert ours == manifest(name)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("condition_shape", [(3,), (3, 1, 1), (2, 8, 8)])
def test_round_trip_gives_the_same_function(tmp_path, suffix, condition_shape):
    config = replace(SMALL, condition_shape=condition_shape, embedder_batch_norm=condition_shape == (3,))
    flow = ConditionalFlow(config, torch.Generator().manual_seed(1))
    x, c = torch.randn(16, 6) * 3 + 1, torch.randn(16, *condition_shape)
    flow(x, c)
    path = tmp_path / f"flow{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(export_flow(flow), path)
    loaded = load_net2net_flow(path, replace(config, seed=77))
    assert not loaded.training
    for mine, theirs in zip(flow.eval()(x, c), loaded(x, c), strict=True):
        assert torch.equal(mine, theirs)


def test_a_whole_training_run_is_read_and_its_sizes_inferred(tmp_path):
    flow = small_flow()
    state = {f"flow.{name}": tensor for name, tensor in export_flow(flow).items()}
    state["first_stage_model.decoder.weight"] = torch.zeros(2)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "global_step": 7, "epoch": 1}, path)
    loaded = load_net2net_flow(path)
    assert replace(loaded.config, seed=SMALL.seed) == SMALL
    assert torch.equal(loaded.blocks[1].shuffle.order, flow.blocks[1].shuffle.order)


def test_leaky_activation_with_and_without_the_missing_log_det(tmp_path):
    flow, path = small_flow(), tmp_path / "flow.pt"
    torch.save(export_flow(flow), path)
    x, c = torch.randn(8, 6), torch.randn(8, 3)
    right = load_net2net_flow(path, activation="leaky_relu")
    wrong = load_net2net_flow(path, replace(SMALL, activation="leaky_relu", activation_log_det=False))
    plain = load_net2net_flow(path)
    assert torch.equal(right(x, c)[0], wrong(x, c)[0])
    assert (right(x, c)[1] < wrong(x, c)[1]).all()
    assert not torch.equal(plain(x, c)[0], wrong(x, c)[0])


def test_every_difference_is_listed_at_once(tmp_path):
    state = export_flow(small_flow())
    del state["sub_layers.0.norm_layer.loc"]
    state["sub_layers.1.norm_layer.scale"] = torch.ones(1, 5, 1, 1)
    state["sub_layers.9.extra"] = torch.ones(1)
    state["sub_layers.1.shuffle.forward_shuffle_idx"] = torch.ones(6)
    save_file(state, tmp_path / "flow.safetensors")
    with pytest.raises(CourseError) as error:
        load_net2net_flow(tmp_path / "flow.safetensors", SMALL)
    for part in (
        "missing sub_layers.0.norm_layer.loc",
        "unknown sub_layers.9.extra",
        "sub_layers.1.norm_layer.scale has shape (1, 5, 1, 1) instead of (1, 6, 1, 1)",
        "sub_layers.1.shuffle.forward_shuffle_idx has dtype torch.float32 instead of torch.int64",
    ):
        assert part in str(error.value)


def test_a_damaged_permutation_is_refused(tmp_path):
    state = export_flow(small_flow())
    state["sub_layers.0.shuffle.forward_shuffle_idx"][0] = state["sub_layers.0.shuffle.forward_shuffle_idx"][1]
    save_file(state, tmp_path / "flow.safetensors")
    with pytest.raises(CourseError, match="no permutation"):
        load_net2net_flow(tmp_path / "flow.safetensors")
    with pytest.raises(CourseError, match="no released Net2Net flow 'animals'"):
        load_net2net_flow(tmp_path / "flow.safetensors", "animals")


# --- flows without condition ----------------------------------------


def unconditional_state(dim=6, hidden=8, blocks=2, seed=0):
    """Tensors as the released class names and shapes them, with two couplings, ActNorm and a permutation a block."""
    generator = torch.Generator().manual_seed(seed)
    state, half = {}, dim // 2
    for i in range(blocks):
        block = f"sub_layers.{i}"
        for name, value in (("loc", 0.0), ("scale", 1.0)):
            noise = 0.3 * torch.randn(1, dim, 1, 1, generator=generator)
            state[f"{block}.norm_layer.{name}"] = value + noise
        state[f"{block}.norm_layer.initialized"] = torch.tensor(1, dtype=torch.uint8)
        for net in ("s.0", "s.1", "t.0", "t.1"):
            widths = [dim - half, hidden, hidden, hidden, half]
            for k, (a, b) in enumerate(pairwise(widths)):
                name = f"{block}.coupling.{net}.main.{2 * k}"
                state[f"{name}.weight"] = torch.randn(b, a, generator=generator) / a**0.5
                state[f"{name}.bias"] = torch.randn(b, generator=generator)
        order = torch.randperm(dim, generator=generator)
        state[f"{block}.shuffle.forward_shuffle_idx"] = order
        state[f"{block}.shuffle.backward_shuffle_idx"] = order.argsort()
    return state


def reference_flow(state, x, blocks=2):
    """The released unconditional flow once more, from its tensors' names alone: v and the log-determinant."""

    def net(name, h):
        for k in range(4):
            h = F.linear(h, state[f"{name}.{2 * k}.weight"].double(), state[f"{name}.{2 * k}.bias"].double())
            h = F.leaky_relu(h, 0.01) if k < 3 else h
        return h.tanh() if ".s." in name else h

    log_det = x.new_zeros(len(x))
    for i in range(blocks):
        block = f"sub_layers.{i}"
        loc, scale = (state[f"{block}.norm_layer.{name}"].double().flatten() for name in ("loc", "scale"))
        x, log_det = scale * (x + loc), log_det + scale.abs().log().sum()
        a, b = x.chunk(2, 1)
        for step in (0, 1):
            s, t = (net(f"{block}.coupling.{letter}.{step}.main", a) for letter in "st")
            a, b, log_det = b * s.exp() + t, a, log_det + s.sum(1)
        x = torch.cat([b, a], 1)[:, state[f"{block}.shuffle.forward_shuffle_idx"]]
    return x, log_det


def test_an_unconditional_flow_has_the_names_of_the_manifest():
    expected = manifest("uncond_flow_example_128_20_512_2")
    state = unconditional_state(128, 512, 20)
    found = {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}
    assert found == expected


@pytest.mark.parametrize("prefix", ["", "flow.", "module.flow."])
def test_an_unconditional_flow_is_what_its_tensors_say(tmp_path, prefix):
    state = unconditional_state()
    torch.save({"state_dict": {prefix + name: t for name, t in state.items()}}, tmp_path / "flow.ckpt")
    flow = load_net2net_flow(tmp_path / "flow.ckpt").double()
    x, nothing = torch.randn(5, 6, dtype=torch.float64), torch.zeros(5, 1)
    v, log_det = flow(x, nothing)
    expected = reference_flow(state, x)
    torch.testing.assert_close((v, log_det), expected)
    torch.testing.assert_close(flow.inverse(v, torch.randn(5, 1)), x)


def test_what_an_unconditional_flow_cannot_be(tmp_path):
    for state, reason in (
        (unconditional_state(7), "odd size 7"),
        ({n: t if not n.endswith("main.0.weight") else torch.zeros(8, 5) for n, t in unconditional_state().items()},
         "embedding of 2 numbers"),
    ):  # fmt: skip
        torch.save(state, tmp_path / "flow.pt")
        with pytest.raises(CourseError, match=reason):
            load_net2net_flow(tmp_path / "flow.pt")
