"""The loop: budgets, accumulation, precision, what stops it, what it logs, and several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_script import FlowMethod, LineMethod, PairMethod, digest, run_pair

from course_lib.errors import CourseError
from course_lib.experts import fingerprint
from course_lib.training import Budget, ShuffledIndices, train
from course_lib.training.runs import Loss, Method


def parameters(method):
    return torch.cat([p.detach().flatten() for module in method.modules.values() for p in module.parameters()])


# --- budgets and settings ---------------------------------------------------------------------------------------------


def test_budget_progress():
    assert Budget(10).progress(5, 99.0) == 0.5
    assert Budget(10, 100.0).progress(5, 80.0) == 0.8
    assert Budget(seconds=2.0).progress(10**6, 1.0) == 0.5
    assert Budget(10).progress(11, 0.0) == 1.0
    assert Budget(0).progress(0, 0.0) == 1.0 and Budget(seconds=0).progress(0, 0.0) == 1.0


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"steps": -1},
        {"steps": "abc"},
        {"steps": 1.5},
        {"steps": 3, "seconds": -0.1},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"seconds": "1"},
    ],
)
def test_impossible_budgets(arguments):
    with pytest.raises(CourseError):
        Budget(**arguments)


def test_budget_of_zero_steps_changes_nothing():
    method = LineMethod()
    before = fingerprint(method.modules["line"])
    history = train(method, Budget(0), 4, progress=False)
    assert history.steps == 0 and fingerprint(method.modules["line"]) == before


def test_budget_in_seconds():
    history = train(LineMethod(), Budget(seconds=0.2), 4, progress=False)
    assert history.steps > 0 and 0.2 <= history.seconds < 5
    assert history.curve["step"][-1] == history.steps, "a short run has a curve too"


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"seed": 1.5},
        {"accumulate": 0},
        {"log_every": 0},
        {"checkpoint_every": -1},
        {"precision": "8-mixed"},
        {"accelerator": "abacus"},
    ],
)
def test_impossible_settings(options):
    with pytest.raises(CourseError):
        train(LineMethod(), Budget(1), **{"batch_size": 4, "progress": False} | options)


def test_empty_data_set():
    method = LineMethod()
    method.length = 0
    with pytest.raises(CourseError, match="empty"):
        train(method, Budget(1), 4, progress=False)


def test_a_method_must_say_what_it_does():
    with pytest.raises(TypeError, match=r"batch\(\)"):
        Method().batch(torch.arange(2), torch.Generator())
    with pytest.raises(TypeError, match=r"losses\(\)"):
        Method().losses(None, torch.Generator(), 0)


def test_learning_rates_come_back_after_a_schedule():
    method = PairMethod()
    train(method, Budget(4), 4, progress=False)
    assert [group["lr"] for group in method.optimizers["painter"].param_groups] == [2e-3]


# --- what a step does -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [LineMethod, lambda: PairMethod(noisy=False)], ids=["line", "pair"])
def test_two_micro_batches_equal_one_double_batch(make):
    double, half = make(), make()
    train(double, Budget(5), 8, progress=False)
    train(half, Budget(5), 4, accumulate=2, progress=False)
    torch.testing.assert_close(parameters(half), parameters(double), rtol=0, atol=1e-6)


def test_average_follows_its_definition():
    seen, method = [], LineMethod()
    method.ema = {"line": 0.75}
    method.at_step = lambda step: seen.append(parameters(method).clone())
    history = train(method, Budget(4), 8, progress=False)
    expected = seen[1]
    for weights in [*seen[2:], parameters(method)]:
        expected = 0.75 * expected + 0.25 * weights
    found = torch.cat([p.detach().flatten() for p in history.averaged["line"].parameters()])
    torch.testing.assert_close(found, expected)


def test_mixed_precision_trains():
    method = PairMethod()
    before = parameters(method)
    history = train(method, Budget(6), 4, precision="bf16-mixed", progress=False)
    assert history.steps == 6 and parameters(method).dtype == torch.float32
    assert not torch.equal(before, parameters(method))
    full = PairMethod()
    train(full, Budget(6), 4, progress=False)
    assert not torch.equal(parameters(full), parameters(method))
    torch.testing.assert_close(parameters(full), parameters(method), rtol=0, atol=0.03)


def test_half_precision_is_not_exchanged_for_another_one():
    with pytest.raises(CourseError, match="needs a GPU"):
        train(LineMethod(), Budget(1), 4, precision="16-mixed", progress=False)


# --- what stops it ----------------------------------------------------------------------------------------------------


def test_loss_that_is_not_finite_names_step_and_loss(tmp_path):
    method = LineMethod()

    def poison(step):
        method.factor = float("nan") if step == 5 else 1.0

    method.at_step = poison
    with pytest.raises(CourseError, match=r"loss/line became nan at step 5.*last checkpoint") as caught:
        train(method, Budget(9), 4, folder=tmp_path, checkpoint_every=2, progress=False)
    assert str(tmp_path) in str(caught.value)
    assert parameters(method).isfinite().all(), "the optimiser never saw the bad gradient"
    healthy = LineMethod()
    history = train(healthy, Budget(9), 4, folder=tmp_path, resume=True, progress=False)
    assert history.steps == 9
    whole = LineMethod()
    train(whole, Budget(9), 4, progress=False)
    assert torch.equal(parameters(healthy), parameters(whole))


def test_bad_scalar_is_named():
    class Odd(LineMethod):
        def losses(self, batch, generator, step):
            for loss in super().losses(batch, generator, step):
                yield Loss("line", loss.value, {"spread": torch.tensor(float("inf"))})

    with pytest.raises(CourseError, match="spread became inf at step 0"):
        train(Odd(), Budget(2), 4, progress=False)


def test_finite_loss_with_a_gradient_that_is_not_never_reaches_a_checkpoint(tmp_path):
    class Root(LineMethod):
        def losses(self, batch, generator, step):
            for loss in super().losses(batch, generator, step):
                zero = (self.modules["line"].weight * 0.0).sum() if step == 3 else torch.ones(())
                yield Loss("line", loss.value + zero.abs().sqrt())

    method = Root()
    with pytest.raises(CourseError, match=r"weights of line are no longer finite after step 4.*last checkpoint"):
        train(method, Budget(9), 4, folder=tmp_path, checkpoint_every=2, progress=False)
    assert train(LineMethod(), Budget(3), 4, folder=tmp_path, resume=True, progress=False).steps == 3


# --- what it logs -----------------------------------------------------------------------------------------------------


def test_tensorboard_has_scalars_and_pictures_and_no_point_twice(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def crash(step):
        if step == 8:
            raise MemoryError

    with pytest.raises(MemoryError):
        run_pair(tmp_path, at_step=crash, log_every=1, preview_every=3)
    run_pair(tmp_path, resume=True, log_every=1, preview_every=3)
    board = EventAccumulator(str(tmp_path)).Reload()
    assert set(board.Tags()["scalars"]) == {"loss/painter", "loss/critic", "near", "real"}
    assert [event.step for event in board.Scalars("near")] == list(range(1, 15))
    assert [event.step for event in board.Images("preview")] == [3, 6, 9, 12]
    picture = board.Images("preview")[0]
    assert picture.encoded_image_string.startswith(b"\x89PNG") and picture.width == 4 * 10 + 2


def test_folder_that_cannot_be_written(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(CourseError, match=r"cannot be written|could not be written"):
        train(LineMethod(), Budget(1), 4, folder=blocker / "run", progress=False)


def test_progress_bar_shows_the_steps(capfd, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    train(LineMethod(), Budget(3), 4, log_every=1, progress=False)
    assert "step" not in capfd.readouterr().err


# --- which data -------------------------------------------------------------------------------------------------------

lengths = st.integers(1, 40)


@settings(deadline=None, max_examples=60)
@given(length=lengths, batch=st.integers(1, 12), seed=st.integers(-(2**70), 2**70), epochs=st.integers(1, 4))
def test_every_epoch_is_a_permutation(length, batch, seed, epochs):
    indices = ShuffledIndices(length, batch, seed)
    stream = torch.cat([indices(k) for k in range(-(-length * epochs // batch))])[: length * epochs]
    for epoch in stream.view(epochs, length):
        assert sorted(epoch.tolist()) == list(range(length))


@settings(deadline=None, max_examples=60)
@given(length=lengths, batch=st.integers(1, 6), world=st.integers(1, 4), number=st.integers(0, 50), seed=st.integers())
def test_processes_share_the_global_batch(length, batch, world, number, seed):
    parts = [ShuffledIndices(length, batch, seed, rank, world)(number) for rank in range(world)]
    assert torch.equal(torch.cat(parts), ShuffledIndices(length, batch * world, seed)(number))
    if (number * world * batch) % length + world * batch <= length:
        joined = torch.cat(parts).tolist()
        assert len(set(joined)) == len(joined), "within an epoch no two processes see one item"


@settings(deadline=None, max_examples=60)
@given(length=lengths, batch=st.integers(1, 12), order=st.permutations(range(8)))
def test_batches_do_not_depend_on_what_was_asked_before(length, batch, order):
    used, seed = ShuffledIndices(length, batch, 3), 3
    for number in order:
        assert torch.equal(used(number), ShuffledIndices(length, batch, seed)(number))


def test_epochs_and_seeds_differ():
    first = ShuffledIndices(100, 100, 0)
    assert not torch.equal(first(0), first(1)) and not torch.equal(first(0), ShuffledIndices(100, 100, 1)(0))


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What two gloo processes under ``torchrun`` report, by rank."""
    out = tmp_path_factory.mktemp("ddp")
    script = Path(__file__).with_name("training_script.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script, out]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_equal_one_with_the_double_batch(two_processes):
    single = LineMethod()
    train(single, Budget(6), 8, progress=False)
    for result in two_processes:
        torch.testing.assert_close(torch.tensor(result["line"]), parameters(single), rtol=0, atol=1e-6)


def test_two_processes_accumulate_like_one_with_the_fourfold_batch(two_processes):
    single, pair = LineMethod(), PairMethod(noisy=False)
    train(single, Budget(3), 8, progress=False)
    train(pair, Budget(3), 8, progress=False)
    sums = [p.detach().double().sum().item() for m in pair.modules.values() for p in m.parameters()]
    for result in two_processes:
        torch.testing.assert_close(torch.tensor(result["accumulated"]), parameters(single), rtol=0, atol=1e-6)
        assert result["pair"] == pytest.approx(sums, abs=2e-5)


def test_flow_with_actnorm_is_one_network_in_both_processes(two_processes):
    first, second = two_processes
    assert first["flow"] == second["flow"] and first["initialized"] and second["initialized"]
    single = FlowMethod()
    train(single, Budget(5), 16, progress=False)
    assert single.modules["flow"].blocks[0].norm.is_initialized


def test_only_the_first_process_scores_and_publishes(two_processes):
    assert [result["published"] for result in two_processes] == [["line.json", "line.safetensors"], None]


def test_time_budget_is_the_same_for_both_processes(two_processes):
    first, second = two_processes
    assert first["timed"] == second["timed"] and first["timed steps"] == second["timed steps"] > 0


def test_digest_depends_on_every_weight():
    method = PairMethod()
    history = train(method, Budget(1), 4, progress=False)
    before = digest(method, history)
    with torch.no_grad():
        method.modules["critic"][-1].bias.add_(1e-6)
    assert digest(method, history) != before
