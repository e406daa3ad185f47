"""The benchmark of per-class kernels: every way draws the same pictures, and the table says what was measured."""

import pytest
import torch

from course_lib.bench import hypermod
from course_lib.bench.__main__ import main, parse
from course_lib.gans.stylegan import StyleGAN, StyleGANConfig
from course_lib.hypermod import HyperGenerator
from course_lib.hypermod import generator as hyper_generator


def test_all_ways_draw_the_same_pictures_and_leave_the_setting_alone():
    torch.manual_seed(0)
    hyper = HyperGenerator(StyleGAN(StyleGANConfig((8, 8, 4), (8, 8, 4), 8)), 3, width=5, start="random")
    source, *ways = hypermod._ways(hyper, 6, 3)
    before = hyper_generator.GROUPED_FROM
    first, *others = [way.run() for way in ways]
    assert not torch.allclose(source.run(), first, atol=1e-2)
    assert all(torch.allclose(first, other, atol=1e-4) for other in others)
    assert before == hyper_generator.GROUPED_FROM and [way.trains for way in ways] == [True, True, True, False, False]


def test_medians_are_of_the_clock_and_ratios_to_the_source(monkeypatch):
    monkeypatch.setitem(hypermod.SHAPES, 16, (8, 8, 4))
    ticks = iter(range(10_000))
    found = hypermod.measure(16, 4, 2, rounds=2, clock=lambda: float(next(ticks)))
    assert all(value == 1.0 for tasks in found.values() for value in tasks.values())
    assert found["source generator"].keys() == {"draw"}
    text = hypermod.table("title", {"source generator": {"draw": 0.01}, "other": {"draw": 0.03, "train": 0.05}})
    assert "3.00x" in text and "50.0 ms" in text and "5.00x" in text


def test_the_command_writes_the_numbers(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(hypermod, "SHAPES", {32: (8, 8, 4, 4)})
    main(["hypermod", "--quick", "--sizes", "32", "--json", str(tmp_path / "found.json")])
    assert "32 pixels, batch 24, 6 classes" in capsys.readouterr().out
    assert "a convolution a class" in (tmp_path / "found.json").read_text()
    with pytest.raises(SystemExit):
        parse(["hypermod", "--sizes", "48"])
