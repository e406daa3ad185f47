"""The benchmark's own parts: its tables, its environments, and what it says when it cannot run."""

import os
import sys

import pytest
import torch

from course_lib.bench.__main__ import main, parse
from course_lib.bench.flow import (
    BenchRun,
    Result,
    as_json,
    best_ratio,
    check_memory,
    contenders,
    measure,
    shortfalls,
    table,
)
from course_lib.bench.peers import PEERS, Peer, build_peer, check_same_function
from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError


def fake(library, seconds, beside=0.1):
    contender = BenchRun(library, "train", True, 8, 16, 2, 1, "wall")
    times = {32: [seconds, seconds, 9 * seconds]}
    return Result(contender, parameters=1000, gflops=0.01, seconds=times, beside={32: [beside] * 3})


def test_ratios_are_of_medians_and_to_the_best_peer():
    results = [fake("ours", 0.1), fake("FrEIA", 0.2), fake("nflows", 0.6, 0.3), fake("zuko", 0.3)]
    assert results[2].ratio(32) == pytest.approx(2.0), "to ours in the same rounds"
    assert best_ratio(results, 32) == pytest.approx(2.0)
    text = table("train", results, 2.2)
    assert "best peer / course_lib: 2.00x at 32" in text
    assert "19% peak" in text
    assert "2.00x instead of 2.2x" in shortfalls(results, 2.2)[0]
    assert shortfalls(results, 1.9) == []
    assert as_json(results)[0]["median_seconds"] == {32: 0.1}


def test_peers_start_without_the_courses_settings_by_default(monkeypatch):
    monkeypatch.setattr("course_lib.profiles.process_environment", lambda: {"MALLOC_TOP_PAD_": "1"})
    monkeypatch.setitem(os.environ, "MALLOC_TOP_PAD_", "5")
    chosen = parse(["--quick"])
    assert chosen.blocks == 4
    environments = {c.library: env for c, env in contenders(chosen, "train", "default")}
    assert environments["ours"]["MALLOC_TOP_PAD_"] == "1"
    assert all("MALLOC_TOP_PAD_" not in environments[name] for name in PEERS)
    assert all(env["MALLOC_TOP_PAD_"] == "1" for _, env in contenders(chosen, "train", "same"))


def test_what_cannot_run_says_so(monkeypatch):
    with pytest.raises(CourseError, match="--threads 1"):
        parse(["--clock", "cpu", "--threads", "2"])
    for arguments in (["--blocks", "0"], ["--rounds", "-1"], ["--width", "many"]):
        with pytest.raises(SystemExit):
            parse(arguments)
    flow = ConditionalFlow(FlowConfig(4, (3,), hidden_dim=8, blocks=1))
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(CourseError, match="not installed"):
        build_peer("zuko", flow)


def test_what_does_not_fit_into_memory_is_refused_before_it_runs(monkeypatch, capsys):
    """The default size takes some 13 GB: it runs on a machine of 24; on one of 8 a line says what would fit."""
    contender = BenchRun("ours", "train", True, 128, 1024, 20, 2, "wall")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in ConditionalFlow(contender.config).parameters())
    free = {"available": 18 * 2**30}
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), free))
    check_memory(contender, parameters)
    free["available"] = 7 * 2**30
    with pytest.raises(CourseError, match=r"are free: use --blocks \d+ or a smaller --width") as error:
        main(["--tasks", "train", "--settings", "same"])
    assert "\n" not in str(error.value) and not capsys.readouterr().out
    blocks = int(str(error.value).split("--blocks ")[1].split()[0])
    assert 1 <= blocks < 20
    check_memory(BenchRun("ours", "train", True, 128, 1024, blocks, 2, "wall"), parameters * blocks // 20)


def test_a_process_that_is_killed_is_named_in_one_line(monkeypatch):
    ours = BenchRun("ours", "sample", True, 4, 8, 1, 1, "wall")
    with pytest.raises(CourseError, match="course_lib was killed, most likely for memory"):
        from course_lib.bench.flow import _started

        with _started(ours, dict(os.environ)) as (process, _):
            process.handle.kill()
            process.handle.wait()
            process.ask(3)


class _Wrong(Peer):
    def __init__(self, flow):
        super().__init__(flow)
        self.blocks = flow.blocks

    def run(self, latent, embedding):
        return 2 * latent, latent.sum(1)

    def back(self, v, embedding):
        return v / 2


def test_a_peer_that_computes_something_else_is_caught():
    flow = ConditionalFlow(FlowConfig(4, (3,), hidden_dim=8, blocks=1)).eval()
    with pytest.raises(CourseError, match="does not compute our function"):
        check_same_function(_Wrong(flow), flow)
    with pytest.raises(CourseError, match="even dim"):
        _Wrong(ConditionalFlow(FlowConfig(5, (3,), hidden_dim=8, blocks=1)))


def test_a_contender_runs_in_its_own_process():
    ours = BenchRun("ours", "train", True, 4, 8, 1, 1, "wall")
    (result,) = measure([(ours, dict(os.environ))], [3, 5], rounds=2, warm_up=1)
    assert {batch: len(times) for batch, times in result.seconds.items()} == {3: 2, 5: 2}
    assert result.parameters > 0
    assert result.gflops > 0
    assert torch.tensor(result.seconds[3]).min() > 0
