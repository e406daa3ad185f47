"""The benchmarks' own parts: tables, environments, what is said where one cannot run, equal work on every way."""

import os
import sys

import pytest
import torch

from benchmarks import flow as bench
from benchmarks import hypermod
from benchmarks.__main__ import main, parse
from benchmarks.flow import Contender, Result, check_memory, contenders, measure
from benchmarks.mind2mind import table as mind2mind_table
from benchmarks.peers import PEERS, Peer, build_peer, check_same_function
from course_lib import hypermod as hyper_generator
from course_lib.cinn import ConditionalFlow, FlowConfig
from course_lib.errors import CourseError
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.hypermod import HyperGenerator


def fake(library, seconds, beside=0.1):
    times = {32: [seconds, seconds, 9 * seconds]}
    return Result(
        Contender(library, "train", True, 2, 1, 8, 16), 1000, gflops=0.01, seconds=times, beside={32: [beside] * 3}
    )


def test_ratios_are_of_medians_and_to_the_best_peer(monkeypatch):
    results = [fake("course_lib", 0.1), fake("FrEIA", 0.2), fake("nflows", 0.6, 0.3), fake("zuko", 0.3)]
    assert results[2].ratio(32) == pytest.approx(2.0), "to ours in the same rounds"
    text = bench.table("train", results)
    assert "best peer / course_lib: 2.00x at 32" in text
    assert "19% peak" in text
    assert "2.00x instead of 2.2x" in bench.shortfalls(results)[0]
    monkeypatch.setattr(bench, "GOAL", 1.9)
    assert bench.shortfalls(results) == []


def test_peers_start_without_the_courses_settings_by_default(monkeypatch):
    monkeypatch.setattr("course_lib.profiles.process_environment", lambda: {"MALLOC_TOP_PAD_": "1"})
    monkeypatch.setitem(os.environ, "MALLOC_TOP_PAD_", "5")
    chosen = parse(["--quick"])
    assert chosen.blocks == 4
    environments = {one.library: one.environment for one in contenders(chosen, "train", "default")}
    assert environments["course_lib"]["MALLOC_TOP_PAD_"] == "1"
    assert all("MALLOC_TOP_PAD_" not in environments[name] for name in PEERS)
    assert all(one.environment["MALLOC_TOP_PAD_"] == "1" for one in contenders(chosen, "train", "same"))


def test_what_cannot_run_says_so(monkeypatch):
    for arguments in (["--blocks", "0"], ["--rounds", "-1"], ["--threads", "many"], ["hypermod", "--sizes", "48"]):
        with pytest.raises(SystemExit):
            parse(arguments)
    flow = ConditionalFlow(FlowConfig(4, (3,), hidden_dim=8, blocks=1))
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(CourseError, match="not installed"):
        build_peer("zuko", flow)


def test_what_does_not_fit_into_memory_is_refused_before_it_runs(monkeypatch, capsys):
    """The default size takes some 13 GB: it runs on a machine of 24; on one of 8 a line says what would fit."""
    contender = Contender("course_lib", "train", True, 20, 2)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in ConditionalFlow(contender.config).parameters())
    free = {"available": 18 * 2**30}
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), free))
    check_memory(contender, parameters)
    free["available"] = 7 * 2**30
    with pytest.raises(CourseError, match=r"are free: use --blocks \d+") as error:
        main(["--tasks", "train"])
    assert "\n" not in str(error.value) and not capsys.readouterr().out
    blocks = int(str(error.value).split("--blocks ")[1].rstrip("."))
    assert 1 <= blocks < 20
    check_memory(Contender("course_lib", "train", True, blocks, 2), parameters * blocks // 20)


def test_a_process_that_is_killed_is_named_in_one_line():
    ours = Contender("course_lib", "sample", True, 1, 1, 4, 8)
    with (
        pytest.raises(CourseError, match="course_lib was killed, most likely for memory"),
        bench.started(ours) as (process, _),
    ):
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


def test_contenders_run_in_processes_of_their_own():
    ours = Contender("course_lib", "train", True, 1, 1, 4, 8)
    mine, other = measure(ours, [ours], [3, 5], rounds=2)
    assert {batch: len(times) for batch, times in other.seconds.items()} == {3: 2, 5: 2}
    assert mine.parameters == other.parameters > 0 and mine.gflops > 0
    assert mine.seconds == other.beside and torch.tensor(mine.seconds[3]).min() > 0


def test_all_ways_draw_the_same_pictures_and_leave_the_setting_alone():
    torch.manual_seed(0)
    hyper = HyperGenerator(StyleGAN(StyleGANConfig((8, 8, 4), (8, 8, 4), 8)), 3, width=5, start="random")
    source, *ways = hypermod.kernel_routes(hyper, 6, 3)
    before = hyper_generator.GROUPED_FROM
    first, *others = [way.run() for way in ways]
    assert not torch.allclose(source.run(), first, atol=1e-2)
    assert all(torch.allclose(first, other, atol=1e-4) for other in others)
    assert before == hyper_generator.GROUPED_FROM and [way.trains for way in ways] == [True, True, True, False, False]


def test_tables_show_times_and_ratios():
    text = hypermod.table("title", {"source generator": {"draw": 0.01}, "other": {"draw": 0.03, "train": 0.05}})
    assert "3.00x" in text and "50.0 ms" in text and "5.00x" in text
    row = {"batch": 2, "whole, float32": 8.0, "whole, bfloat16": 6.0, "MindGAN": 0.02}
    row |= {"ratio a step": 300.0, "ratio a picture": 3840.0, "whole: operations": 70, "MindGAN: operations": 10}
    text = mind2mind_table({64: row})
    assert "300x" in text and "3,840x" in text and "7x" in text


def test_the_command_writes_the_numbers(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(hypermod, "SHAPES", {32: (8, 8, 4, 4)})
    monkeypatch.setattr("benchmarks.__main__.RUNS", tmp_path)
    main(["hypermod", "--quick", "--sizes", "32"])
    assert "32 pixels, batch 24, 6 classes" in capsys.readouterr().out
    assert "a convolution a class" in (tmp_path / "bench-hypermod.json").read_text()
