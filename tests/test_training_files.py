"""Checkpoints and cards on disk: whole or not at all, and never executed."""

import errno
import json
import os
import pickle
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_lib.errors import CourseError
from course_lib.training import Card, atomic_write, load_card, load_weights, save_weights
from course_lib.training.runs import History, Snapshot, as_stored, read_state, write_state

FULL = OSError(errno.ENOSPC, "No space left on device")


class Bomb:
    """A pickle that leaves a trace if anything runs it."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


@pytest.fixture
def state(tmp_path):
    path = tmp_path / "state.safetensors"
    write_state(path, {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor(3, dtype=torch.uint8)}, {"step": 4})
    return path


# --- writing ----------------------------------------------------------------------------------------------------------


def test_state_round_trip(state):
    tensors, plain = read_state(state)
    assert plain == {"step": 4} and tensors["b"].dtype == torch.uint8
    assert torch.equal(tensors["a"], torch.arange(6.0).view(2, 3).T)
    assert [p.name for p in state.parent.iterdir()] == [state.name]


def test_writing_makes_the_folder(tmp_path):
    atomic_write(tmp_path / "new" / "folder" / "a.txt", lambda part: part.write_text("x"))
    assert (tmp_path / "new" / "folder" / "a.txt").read_text() == "x"


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_full_disk_leaves_the_old_file(state, monkeypatch, where):
    before = state.read_bytes()

    def full(*_):
        raise FULL

    def write(part):
        part.write_bytes(b"half")
        if where == "write":
            raise FULL

    if where != "write":
        monkeypatch.setattr(os, where, full)
    with pytest.raises(CourseError, match=r"nothing was overwritten.*no space left on the disk"):
        atomic_write(state, write)
    assert state.read_bytes() == before
    assert [p.name for p in state.parent.iterdir()] == [state.name]


def test_folder_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CourseError, match="could not be written"):
        atomic_write(tmp_path / "file" / "state", lambda part: part.write_text("x"))


def test_programming_errors_pass_through_and_leave_nothing(tmp_path):
    def write(part):
        part.write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic_write(tmp_path / "a", write)
    assert not list(tmp_path.iterdir())


def test_optimiser_round_trip(tmp_path):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters(), 0.1, amsgrad=True)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    fresh = torch.optim.Adam(net.parameters(), 0.5)
    precision = SimpleNamespace(state_dict=dict, load_state_dict=lambda state: None)

    def snapshot(one):
        return Snapshot(tmp_path, {"module/net": net}, {"net": one}, precision, {"seed": 0}, {})

    snapshot(optimizer).save(History(steps=3), {"loss": [1.5]})
    history = History()
    assert snapshot(fresh).restore(history) == {"loss": [1.5]} and history.steps == 3
    assert fresh.param_groups[0]["lr"] == 0.1
    for parameter in net.parameters():
        for slot, value in optimizer.state[parameter].items():
            assert torch.equal(fresh.state[parameter][slot], value)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_missing_state(tmp_path):
    with pytest.raises(CourseError, match="no checkpoint"):
        read_state(tmp_path / "nothing")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_state(state, share):
    content = state.read_bytes()
    cut = state.with_name("cut.safetensors")
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CourseError, match="truncated"):
        read_state(cut)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_bytes_that_are_no_state(tmp_path, content):
    path = tmp_path / "noise.safetensors"
    path.write_bytes(content)
    with pytest.raises(CourseError):
        read_state(path)


def test_folder_as_state(tmp_path):
    with pytest.raises(CourseError):
        read_state(tmp_path)


def test_weights_without_training_state(tmp_path):
    save_weights({"a": torch.ones(2)}, Card("w", "test", {}), tmp_path)
    with pytest.raises(CourseError, match="no training checkpoint"):
        read_state(tmp_path / "w.safetensors")


@pytest.mark.parametrize("save", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_pickle_with_code_is_refused_and_not_run(tmp_path, save):
    trace, path = tmp_path / "ran", tmp_path / "w.safetensors"
    save_weights({"a": torch.ones(2)}, Card("w", "test", {}), tmp_path)
    with path.open("wb") as file:
        save(Bomb(trace), file)
    with pytest.raises(CourseError):
        read_state(path)
    with pytest.raises(CourseError):
        load_weights("w", tmp_path)
    # Even a card that vouches for it does not get it run.
    import hashlib

    card = json.loads((tmp_path / "w.json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "w.json").write_text(json.dumps(card))
    with pytest.raises(CourseError, match="cannot be read"):
        load_weights("w", tmp_path)
    assert not trace.exists()


# --- shipped weights --------------------------------------------------------------------------------------------------


def weights():
    return {"a": torch.randn(3, 4), "big": torch.tensor([1e5, 1.0]), "n": torch.tensor(7), "empty": torch.ones(0, 2)}


def test_weights_round_trip(tmp_path):
    tensors = weights()
    card = Card("w", "test", {"size": 3}, metrics={"score": 0.5}, curve={"step": [1, 2], "loss": [2.0, 1.0]})
    save_weights(tensors, card, tmp_path)
    loaded, found = load_weights("w", tmp_path)
    assert found == card and len(found.sha256) == 64 and found.versions["torch"] == torch.__version__
    assert loaded.keys() == tensors.keys() and loaded["n"].dtype == torch.int64
    assert torch.equal(loaded["a"], tensors["a"].half().float())
    assert torch.equal(loaded["big"], tensors["big"]), "what half precision cannot hold is kept whole"
    save_weights(tensors, card, tmp_path, bits=32)
    assert torch.equal(load_weights("w", tmp_path)[0]["a"], tensors["a"])


def test_eight_bits_halve_the_file_and_keep_every_row_to_its_scale(tmp_path):
    rows = torch.tensor([[1.0], [1e-3], [0.0], [1e5]])
    tensors = {"kernel": torch.randn(4, 64, 6, 6) * rows[:, :, None, None], "bias": torch.randn(4)}
    sizes = {}
    for bits in (8, 16):
        sizes[bits] = save_weights(tensors, Card("w", "test", {}), tmp_path, bits).stat().st_size
        loaded, _ = load_weights("w", tmp_path)
        assert loaded.keys() == tensors.keys() and loaded["kernel"].dtype == torch.float32
        error = (loaded["kernel"] - tensors["kernel"]).flatten(1).abs().amax(1)
        largest = tensors["kernel"].flatten(1).abs().amax(1)
        assert (error <= (0.5 / 127 + 1e-6) * largest).all() and torch.equal(
            loaded["bias"], tensors["bias"].half().float()
        )
    assert sizes[8] < 0.6 * sizes[16]
    pair = {"shift.kernel": torch.randn(64, 64), "kernel": torch.randn(64, 64)}
    save_weights(pair, Card("w", "test", {}), tmp_path, 8, fine=("shift.kernel",))
    loaded, _ = load_weights("w", tmp_path)
    assert torch.equal(loaded["shift.kernel"], pair["shift.kernel"].half().float()), "16 bits where they are asked for"
    assert not torch.equal(loaded["kernel"], pair["kernel"].half().float())
    once = as_stored(pair, 8, ("shift.kernel",))
    twice = as_stored(once, 8, ("shift.kernel",))
    for name in pair:
        torch.testing.assert_close(once[name], loaded[name], rtol=0, atol=0)
        torch.testing.assert_close(twice[name], once[name], rtol=1e-6, atol=0, msg="rounded again it stays")


def test_missing_card_says_what_is_there(tmp_path):
    save_weights(weights(), Card("there", "test", {}), tmp_path)
    with pytest.raises(CourseError, match=r"'absent'.*there: there\).*check the name"):
        load_card("absent", tmp_path)
    with pytest.raises(CourseError, match=r"'absent'.*make train NAME=absent"):
        load_card("absent")
    (tmp_path / "there.json").unlink()
    with pytest.raises(CourseError, match=r"there\.safetensors is there and its card there\.json is missing"):
        load_weights("there", tmp_path)
    with pytest.raises(CourseError, match=r"'absent'.*there: none"):
        load_card("absent", tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b'{"name": "w"}', b'{"colour": 1}'])
def test_damaged_card(tmp_path, content):
    save_weights(weights(), Card("w", "test", {}), tmp_path)
    (tmp_path / "w.json").write_bytes(content)
    with pytest.raises(CourseError, match="damaged"):
        load_card("w", tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_damaged_weights(tmp_path, damage):
    path = save_weights(weights(), Card("w", "test", {}), tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    else:
        content[-1] ^= 1
        path.write_bytes(content[:-5] if damage == "truncated" else content)
    with pytest.raises(CourseError, match="copy it into"):
        load_weights("w", tmp_path)


@pytest.mark.parametrize(("function", "call"), [("fsync", 1), ("fsync", 2), ("replace", 1)])
def test_full_disk_keeps_weights_and_card_together(tmp_path, monkeypatch, function, call):
    old = weights()
    save_weights(old, Card("w", "test", {}, notes="old"), tmp_path)
    real, seen = getattr(os, function), []

    def full(*arguments):
        seen.append(arguments)
        if len(seen) == call:
            raise FULL
        return real(*arguments)

    monkeypatch.setattr(os, function, full)
    with pytest.raises(CourseError, match="no space left on the disk"):
        save_weights(weights(), Card("w", "test", {}, notes="new"), tmp_path)
    monkeypatch.undo()
    tensors, card = load_weights("w", tmp_path)
    assert card.notes == "old" and torch.equal(tensors["a"], old["a"].half().float())
    assert not list(tmp_path.glob(".*.part"))


def test_files_can_be_read_by_others(tmp_path):
    path = save_weights(weights(), Card("w", "test", {}), tmp_path)
    assert path.stat().st_mode & 0o777 == path.with_suffix(".json").stat().st_mode & 0o777 == 0o644
