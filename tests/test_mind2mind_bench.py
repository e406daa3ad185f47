"""The benchmark of a step: what is compared, and that the ratios are those of the numbers beside them."""

import pytest

from course_lib.bench.__main__ import main, parse
from course_lib.gans.alae_config import ALAEConfig
from course_lib.mind2mind import by_size


def test_ratios_follow_from_the_measured_seconds(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(by_size, "BATCHES", {64: 2})
    monkeypatch.setattr(by_size, "config_at", lambda size: ALAEConfig((4, 4, 4, 4, 4), 5, 2))
    asked, seconds = [], iter([8.0, 6.0, 0.02, 0.1])

    def timed(run, repeats, precision=None, clock=None):
        run()
        asked.append((repeats, precision))
        return next(seconds)

    monkeypatch.setattr(by_size, "iteration_seconds", timed)
    main(["mind2mind", "--sizes", "64", "--rounds", "2", "--json", str(tmp_path / "found.json")])
    assert [repeats for repeats, _ in asked] == [2, 2, 5, 5]
    assert [str(precision) for _, precision in asked] == ["None", "torch.bfloat16", "None", "None"]
    text = capsys.readouterr().out
    # 6 s against 0.02 s a step; 3 s a picture against 0.1 s for 128 codes.
    assert "300x" in text and "3,840x" in text and "8,000.0 ms" in text and "7,083x" in text
    assert '"ratio a step": 300.0' in (tmp_path / "found.json").read_text()


def test_each_part_has_its_own_sizes():
    assert parse(["mind2mind"]).sizes == [64, 128, 256, 512, 1024]
    assert parse(["hypermod"]).sizes == [32, 64, 256]
    for wrong in (["mind2mind", "--sizes", "32"], ["flow", "--sizes", "64"]):
        with pytest.raises(SystemExit):
            parse(wrong)
