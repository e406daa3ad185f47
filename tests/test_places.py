"""The gate for places to write: results replace nothing, and what cannot be written is one line of advice."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from course_lib import profiles
from course_lib.errors import CourseError, explain
from course_lib.runner.doctor import examine

# What the system says → what we say.
REFUSALS = {
    errno.EROFS: "read-only: make it writable, or set COURSE_RUNS .* or COURSE_CACHE",
    errno.EACCES: "permission denied: make it writable, or set COURSE_RUNS",
    errno.EPERM: "not permitted: make it writable",
    errno.ENOSPC: "no space left on the disk: free some",
    errno.EDQUOT: "quota is used up: free some",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.ENAMETOOLONG: "name is too long",
    errno.EMFILE: "too many files are open",
    errno.EIO: "disk does not answer",
    errno.EBADMSG: "Bad message",
}


@pytest.mark.parametrize("number", REFUSALS)
def test_every_refusal_is_one_line_of_advice(tmp_path, monkeypatch, number):
    def refuse(self, *_, **__):
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_RUN_FOLDER", str(tmp_path / "run"))
    for ask in (profiles.cache_dir, profiles.run_folder, lambda: profiles.new_folder(tmp_path, "a")):
        with pytest.raises(CourseError, match=REFUSALS[number]) as caught:
            ask()
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert explain(OSError("odd\nthings")) == "odd things"


def test_the_doctor_tries_to_write(tmp_path, monkeypatch):
    for name, variable in (("results", "RUNS"), ("cache", None)):
        blocked = tmp_path / f"{name}-file"
        blocked.write_text("")
        if variable:
            monkeypatch.setattr(profiles, variable, blocked / "inside")
        else:
            monkeypatch.setenv("COURSE_CACHE", str(blocked / "inside"))
    problems = examine()
    assert "a file stands where a folder is needed" in problems["results"]
    assert "a file stands where a folder is needed" in problems["cache"]
    monkeypatch.setattr(profiles, "RUNS", tmp_path / "runs/deep")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    assert not {"results", "cache"} & set(examine())
    assert not (tmp_path / "runs").exists(), "asking makes nothing"


def test_results_replace_nothing(tmp_path):
    first, second = (profiles.new_folder(tmp_path / "deep", "own") for _ in range(2))
    assert [first.name, second.name] == ["own", "own-2"]
    (tmp_path / "deep/own-3").write_text("a file of that name")
    assert profiles.new_folder(tmp_path / "deep", "own").name == "own-4"


def test_runs_and_cache_can_be_elsewhere_and_each_kernel_has_a_folder_of_its_own(tmp_path):
    code = "from course_lib.profiles import *; print(run_folder(), run_folder(), cache_dir(), sep='\\n')"
    environment = {**os.environ, "COURSE_RUNS": str(tmp_path / "r"), "COURSE_CACHE": str(tmp_path / "c")}
    environment.pop("COURSE_RUN_FOLDER", None)
    seen = set()
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        run, again, cache = done.stdout.split()
        assert run == again and Path(run).parent == tmp_path / "r" and "-lab" in run and cache == str(tmp_path / "c")
        seen.add(run)
    assert len(seen) == 2
