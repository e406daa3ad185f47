"""Released Net2Net flows: names and shapes, the round trip, and every way in which a file can be wrong."""

import os
import pickle
import sys
import types
from dataclasses import replace

import pytest
import torch
from released_tools import manifest
from safetensors.torch import save_file

from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError
from course_lib.released import (
    RELEASED_FLOWS,
    export_flow,
    flow_layout,
    infer_flow_config,
    load_flow,
    load_flow_state,
    read_state_dict,
)

SMALL = FlowConfig(6, (3,), 4, hidden_dim=8, blocks=2, embedder_hidden_dim=5, embedder_batch_norm=True)


def described(config):
    return {key: (entry.shape, str(entry.dtype).removeprefix("torch.")) for key, entry in flow_layout(config).items()}


def small_flow():
    flow = ConditionalFlow(SMALL, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    flow(3 * torch.randn(16, 6, generator=generator) + 1, torch.randn(16, 3, generator=generator))
    return flow.eval()


@pytest.mark.parametrize("name", RELEASED_FLOWS)
def test_names_shapes_and_order_equal_the_manifest(name):
    expected = manifest(f"flow_{name}")
    assert described(RELEASED_FLOWS[name]) == expected
    assert list(flow_layout(RELEASED_FLOWS[name])) == list(expected)


@pytest.mark.parametrize("name", RELEASED_FLOWS)
def test_sizes_are_read_off_full_size_shapes(name):
    with torch.device("meta"):
        state = {key: torch.empty(entry.shape) for key, entry in flow_layout(RELEASED_FLOWS[name]).items()}
    assert infer_flow_config(state) == RELEASED_FLOWS[name]


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
    loaded = load_flow(path, replace(config, seed=77))
    assert not loaded.training
    for mine, theirs in zip(flow.eval()(x, c), loaded(x, c), strict=True):
        assert torch.equal(mine, theirs)


def test_a_whole_training_run_is_read_and_its_sizes_inferred(tmp_path):
    flow = small_flow()
    state = {f"flow.{name}": tensor for name, tensor in export_flow(flow).items()}
    state["first_stage_model.decoder.weight"] = torch.zeros(2)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "global_step": 7, "epoch": 1}, path)
    loaded = load_flow(path)
    assert replace(loaded.config, seed=SMALL.seed) == SMALL
    assert torch.equal(loaded.blocks[1].shuffle.order, flow.blocks[1].shuffle.order)


def test_leaky_activation_with_and_without_the_missing_log_det(tmp_path):
    flow, path = small_flow(), tmp_path / "flow.pt"
    torch.save(export_flow(flow), path)
    x, c = torch.randn(8, 6), torch.randn(8, 3)
    right = load_flow(path, activation="leaky_relu")
    wrong = load_flow(path, activation="leaky_relu", reproduce_lrelu_bug=True)
    plain = load_flow(path)
    assert torch.equal(right(x, c)[0], wrong(x, c)[0])
    assert (right(x, c)[1] < wrong(x, c)[1]).all()
    assert not torch.equal(plain(x, c)[0], wrong(x, c)[0])


def test_every_difference_is_listed_at_once():
    state = export_flow(small_flow())
    del state["sub_layers.0.norm_layer.loc"]
    state["sub_layers.1.norm_layer.scale"] = torch.ones(1, 5, 1, 1)
    state["sub_layers.9.extra"] = torch.ones(1)
    state["sub_layers.1.shuffle.forward_shuffle_idx"] = torch.ones(6)
    with pytest.raises(CourseError) as error:
        load_flow_state(state, SMALL)
    for part in (
        "missing sub_layers.0.norm_layer.loc",
        "unknown sub_layers.9.extra",
        "sub_layers.1.norm_layer.scale has shape (1, 5, 1, 1) instead of (1, 6, 1, 1)",
        "sub_layers.1.shuffle.forward_shuffle_idx has dtype torch.float32 instead of torch.int64",
    ):
        assert part in str(error.value)


def test_a_damaged_permutation_is_refused():
    state = export_flow(small_flow())
    state["sub_layers.0.shuffle.forward_shuffle_idx"][0] = state["sub_layers.0.shuffle.forward_shuffle_idx"][1]
    with pytest.raises(CourseError, match="no permutation"):
        load_flow_state(state, SMALL)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, writer, legacy):
    path, trap = tmp_path / "evil.ckpt", tmp_path / "trap"
    content = {"state_dict": {"a": torch.zeros(1)}, "callbacks": _Bomb(trap)}
    if writer == "torch":
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(CourseError, match=r"evil\.ckpt"):
        read_state_dict(path)
    assert not trap.exists()


def test_code_is_named_as_the_reason(tmp_path):
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "callbacks": _Bomb(tmp_path / "trap")}, path)
    with pytest.raises(CourseError, match=r"run code.*mkdir"):
        read_state_dict(path)


def test_classes_of_an_old_lightning_checkpoint_are_not_needed(tmp_path, monkeypatch):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")

    class ModelCheckpoint:
        pass

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = module.__name__, "ModelCheckpoint"
    module.ModelCheckpoint = ModelCheckpoint
    path = tmp_path / "old.ckpt"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
        patch.setitem(sys.modules, module.__name__, module)
        held = ModelCheckpoint()
        held.best = 3
        torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": {ModelCheckpoint: 1}, "held": held}, path)
    assert torch.equal(read_state_dict(path)["a"], torch.ones(2))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(tmp_path, suffix, keep):
    path = tmp_path / f"flow{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(export_flow(small_flow()), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(CourseError, match="damaged"):
        load_flow(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CourseError, match="There is no checkpoint"):
        read_state_dict(tmp_path / "absent.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CourseError, match="no state dictionary"):
        read_state_dict(tmp_path / "list.pt")
    torch.save({"a": 1, "b": torch.zeros(1)}, tmp_path / "mixed.pt")
    with pytest.raises(CourseError, match="not tensors"):
        read_state_dict(tmp_path / "mixed.pt")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CourseError, match="cannot be read off"):
        load_flow(tmp_path / "other.pt")
    with pytest.raises(CourseError, match="no released flow"):
        load_flow(tmp_path / "other.pt", "animals")
