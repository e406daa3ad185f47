"""A run that is killed, resumed, killed again and resumed ends in the bits of a run that was left alone."""

import json
import multiprocessing
import os
import random
import signal
from dataclasses import dataclass, replace

import pytest
import torch
import training_script
from training_script import STEPS, LineMethod, PairMethod, digest, run_pair, scaled_launch

from course_lib.data import ImageSet
from course_lib.errors import CourseError
from course_lib.training import Budget, loop, train
from course_lib.training.runs import read_state, write_state

STATE = "state.safetensors"


@pytest.fixture(scope="module")
def processes():
    """Starts children that have the libraries loaded but have not computed anything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_script", "lightning.fabric", "torch.utils.tensorboard"])

    def start(target, *arguments):
        receive, send = context.Pipe(duplex=False)
        arguments = (arguments[0], send, *arguments[1:])
        process = context.Process(target=getattr(training_script, target), args=arguments, daemon=True)
        process.start()
        send.close()
        return process, receive

    return start


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    torch.set_num_threads(1)
    return run_pair(tmp_path_factory.mktemp("whole"))


def stored_step(folder):
    return read_state(folder / STATE)[1]["step"]


def kill_at(process, receive, step):
    """Kills the child with signal 9 as soon as it announces ``step``."""
    while receive.recv() != ("step", step):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("seed", [0, 1])
def test_killed_three_times_ends_in_the_same_bits(processes, uninterrupted, tmp_path, seed):
    choose, kills = random.Random(seed), 0
    for low, high in ((1, 4), (5, 9), (10, STEPS - 1)):
        process, receive = processes("killed_run", tmp_path, {})
        kill_at(process, receive, choose.randint(low, high))
        kills += 1
    process, receive = processes("killed_run", tmp_path, {})
    message = receive.recv()
    first = message[1]
    while message[0] == "step":
        message = receive.recv()
    process.join(60)
    # The last child went on from a checkpoint; it did not start again.
    assert kills == 3 and first >= 6
    assert message == ("done", uninterrupted)


@pytest.mark.parametrize("at_save", [1, 3])
def test_killed_while_writing_leaves_the_checkpoint_before(processes, uninterrupted, tmp_path, at_save):
    process, _ = processes("killed_in_write", tmp_path, at_save)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.part"))) == 1
    if at_save == 1:
        assert not (tmp_path / STATE).exists()
    else:
        assert stored_step(tmp_path) == 3 * (at_save - 1)
    assert run_pair(tmp_path, resume=True) == uninterrupted
    assert not list(tmp_path.glob(".*.part"))


def test_full_disk_while_training_keeps_the_checkpoint_before(processes, tmp_path):
    train(LineMethod(), Budget(2), 4, folder=tmp_path, progress=False)
    before = (tmp_path / STATE).read_bytes()
    method = LineMethod()
    method.modules["line"].register_buffer("ballast", torch.zeros(30_000))
    train(method, Budget(2), 4, folder=tmp_path / "large", progress=False)
    large = (tmp_path / "large" / STATE).read_bytes()
    process, receive = processes("limited_run", tmp_path / "large", 30_000)
    name, message = receive.recv()
    process.join(60)
    assert name == "CourseError" and "could not be written" in message and "nothing was overwritten" in message
    assert (tmp_path / "large" / STATE).read_bytes() == large and (tmp_path / STATE).read_bytes() == before
    assert not list((tmp_path / "large").glob(".*.part"))


def test_interrupt_saves_and_resume_continues(uninterrupted, tmp_path, capsys):
    def interrupt(step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)

    run_pair(tmp_path, at_step=interrupt)
    assert stored_step(tmp_path) == 5 and "Stopped after step 5; continue with resume=True" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert run_pair(tmp_path, resume=True)[0] == uninterrupted[0]


def test_second_interrupt_raises(tmp_path):
    def interrupt(step):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_pair(tmp_path, at_step=interrupt)


def test_neither_checkpoints_nor_previews_change_the_result(uninterrupted):
    assert run_pair(None, preview_every=0, checkpoint_every=0)[0] == uninterrupted[0]


def test_other_seed_gives_other_weights(uninterrupted):
    assert run_pair(None, seed=10)[0] != uninterrupted[0]


def test_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(4)
    expected = torch.rand(3)
    method = LineMethod()
    torch.manual_seed(4)
    train(method, Budget(2), 4, progress=False)
    assert torch.equal(torch.rand(3), expected)


def test_resume_keeps_the_loss_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "launch", scaled_launch)
    options = {"fused": False}
    whole = run_pair(tmp_path / "a", **options)

    def crash(step):
        if step == 8:
            raise MemoryError

    with pytest.raises(MemoryError):
        run_pair(tmp_path / "b", at_step=crash, **options)
    # The scale has grown, so a resumed run that began with the first one would end in other bits.
    assert read_state(tmp_path / "b" / STATE)[1]["precision"]["scale"] > 2.0**4
    assert run_pair(tmp_path / "b", resume=True, **options) == whole


def test_resume_refuses_another_seed(tmp_path):
    run_pair(tmp_path, steps=3)
    with pytest.raises(CourseError, match="seed 9"):
        run_pair(tmp_path, resume=True, seed=1)


def test_resume_refuses_another_method(tmp_path):
    run_pair(tmp_path, steps=3)
    method = LineMethod()
    inside = method.modules["line"]
    with pytest.raises(CourseError, match="another method"):
        train(method, Budget(4), 4, folder=tmp_path, resume=True, seed=9, progress=False)
    # The method is usable as before: nothing of the loop stays wrapped around its networks.
    assert method.modules["line"] is inside


def test_resume_refuses_a_part_of_a_method_and_another_size(tmp_path):
    run_pair(tmp_path, steps=3)
    part = PairMethod()
    del part.modules["critic"], part.optimizers["critic"]
    with pytest.raises(CourseError, match="module critic"):
        train(part, Budget(4), 4, folder=tmp_path, resume=True, seed=9, progress=False)
    wider = PairMethod()
    wider.modules["critic"] = torch.nn.Linear(3, 1)
    with pytest.raises(CourseError, match="another method or size"):
        train(wider, Budget(4), 4, folder=tmp_path, resume=True, seed=9, progress=False)


def test_resume_refuses_moments_of_weights_in_another_order(tmp_path):
    """A fused optimiser would read past their end, and the next step would be nan."""
    run_pair(tmp_path, steps=3)
    tensors, plain = read_state(tmp_path / STATE)
    own = {key: tensors[key] for key in tensors if key.startswith("optimizer/critic/") and tensors[key].ndim}
    for key in own:
        number = key.split("/")[2]
        other = key.replace(f"/{number}/", f"/{3 - int(number)}/")
        tensors[key] = own[other].clone()
    write_state(tmp_path / STATE, tensors, plain)
    with pytest.raises(CourseError, match="another method or size"):
        train(PairMethod(), Budget(4), 4, folder=tmp_path, resume=True, seed=9, progress=False)


# What is not as it was when the run began → what the message names. One line a case.
@dataclass(frozen=True)
class Told:
    weight: float = 1.0


def other_optimizer(method, kind=torch.optim.Adam, rate=0.05, **options):
    method.optimizers = {"line": kind(method.modules["line"].parameters(), rate, **options)}


CHANGES = {
    "batch size 4, not 3": ({"batch_size": 3}, None),
    "precision 32-true, not bf16-mixed": ({"precision": "bf16-mixed"}, None),
    "seed 0, not 5": ({"seed": 5}, None),
    "learning rate of line 0.05, not 0.1": ({}, lambda m: other_optimizer(m, rate=0.1)),
    "optimiser of line .*Adam.*, not .*AdamW": ({}, lambda m: other_optimizer(m, torch.optim.AdamW)),
    "optimiser of line": ({}, lambda m: other_optimizer(m, betas=(0.5, 0.9))),
    "learning-rate schedule": ({}, lambda m: setattr(m, "learning_rate", lambda progress: 1 - 0.5 * progress)),
    "told.weight 1.0, not 2.0": ({}, lambda m: setattr(m, "told", Told(2.0))),
    "number of items 24, not 20": ({}, lambda m: (setattr(m, "length", 20), setattr(m, "x", m.x[:20]))),
    "other data": ({}, lambda m: setattr(m, "x", m.x.flip(0))),
    "with other data": ({}, lambda m: setattr(m, "x", torch.cat([m.x[:-1], m.x[:1]]))),
    "other data:": ({}, lambda m: setattr(m, "parts", {"label": torch.arange(24).flip(0)})),
}


@pytest.mark.parametrize("said", CHANGES)
def test_resume_refuses_other_settings_and_names_them(tmp_path, said):
    def method():
        made = LineMethod()
        made.told, made.parts, made.note = Told(), {"label": torch.arange(24)}, "free"
        return made

    train(method(), Budget(2), 4, folder=tmp_path, progress=False)
    before = (tmp_path / STATE).read_bytes()
    options, change = CHANGES[said]
    other = method()
    if change:
        change(other)
    with pytest.raises(CourseError, match=said) as caught:
        train(other, Budget(4), **{"batch_size": 4} | options, folder=tmp_path, resume=True, progress=False)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / STATE).read_bytes() == before
    # Logging, notes and a longer budget are free; so are the last digits of what a network has encoded.
    free = method()
    free.note, free.x = "changed", free.x + 1e-7
    options = {"log_every": 1, "checkpoint_every": 1, "preview_every": 0}
    assert train(free, Budget(4), 4, folder=tmp_path, resume=True, progress=False, **options).steps == 4


def test_pictures_are_compared_bit_by_bit(tmp_path):
    images = torch.randint(0, 256, (24, 3, 4, 4), dtype=torch.uint8)

    def method(pictures):
        made = LineMethod()
        made.data = ImageSet("mine", pictures, {"class": torch.zeros(24, dtype=torch.int64)}, {"class": ["a"]})
        return made

    train(method(images), Budget(1), 4, folder=tmp_path, progress=False)
    moved = method(images.clone())
    moved.data = replace(moved.data, name="elsewhere")
    assert train(moved, Budget(2), 4, folder=tmp_path, resume=True, progress=False).steps == 2
    images[20, 1, 2, 3] ^= 1
    with pytest.raises(CourseError, match="other data"):
        train(method(images), Budget(3), 4, folder=tmp_path, resume=True, progress=False)


def test_a_state_of_the_course_before_settings_were_kept_still_resumes(tmp_path):
    train(LineMethod(), Budget(2), 4, folder=tmp_path, progress=False)
    tensors, plain = read_state(tmp_path / STATE)
    del plain["settings"], plain["data"]
    write_state(tmp_path / STATE, tensors, plain)
    assert train(LineMethod(), Budget(3), 4, folder=tmp_path, resume=True, progress=False).steps == 3
    write_state(tmp_path / STATE, tensors, plain)
    with pytest.raises(CourseError, match="seed 0, not 1"):
        train(LineMethod(), Budget(3), 4, folder=tmp_path, resume=True, progress=False, seed=1)


def test_without_resume_a_run_starts_again(tmp_path):
    first = run_pair(tmp_path, steps=3)
    assert run_pair(tmp_path, steps=3) == first


def test_resume_of_a_finished_run_does_nothing(tmp_path):
    assert run_pair(tmp_path, steps=4) == run_pair(tmp_path, steps=4, resume=True)


def test_curve_has_no_gap_and_no_point_twice(tmp_path, uninterrupted):
    def crash(step):
        if step == 11:
            raise MemoryError

    with pytest.raises(MemoryError):
        run_pair(tmp_path, at_step=crash)
    resumed = run_pair(tmp_path, resume=True)
    assert resumed == uninterrupted
    assert resumed[1]["step"] == list(range(2, STEPS + 1, 2))
    json.dumps(resumed[1])


def test_two_processes_of_one_method_agree(uninterrupted):
    method = PairMethod()
    history = train(method, Budget(STEPS), 4, seed=9, progress=False)
    assert digest(method, history) == uninterrupted[0]
