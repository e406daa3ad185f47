"""Set-up: pyproject, lock and conda file agree; nothing ties the project to one machine or one package index."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from course_lib.profiles import ROOT

# What conda-forge calls differently.
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
LOCKED_EXTRAS = ("dev",)


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wanted(project):
    lines = [*project["dependencies"], *(line for e in LOCKED_EXTRAS for line in project["optional-dependencies"][e])]
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


@pytest.fixture(scope="module")
def locked():
    """Name to the versions pinned (one per environment marker) with the hashes of each."""
    pins: dict[str, list[tuple[str, int]]] = {}
    for block in re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip()):
        requirement = Requirement(block.split("\\")[0].strip())
        [pin] = requirement.specifier
        assert pin.operator == "==", block
        pins.setdefault(canonicalize_name(requirement.name), []).append((pin.version, block.count("--hash=sha256:")))
    return pins


def test_the_lock_pins_everything_wanted_within_its_range(wanted, locked):
    for name, specifier in wanted.items():
        assert name in locked, f"{name} is in pyproject.toml but not in requirements.lock: run 'make lock'"
        assert all(version in specifier for version, _ in locked[name]), name


def test_every_pin_has_hashes(locked):
    assert len(locked) > 100
    assert all(hashes > 0 for pins in locked.values() for _, hashes in pins)


def test_the_conda_file_has_the_same_ranges(wanted, project):
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    conda = {}
    for requirement in map(Requirement, [*(e for e in entries if isinstance(e, str)), *pip]):
        conda[CONDA_NAMES.get(requirement.name, canonicalize_name(requirement.name))] = requirement.specifier
    assert conda.pop("python") == SpecifierSet(project["requires-python"])
    conda.pop("pip")
    assert conda == wanted


def test_the_bench_peers_stay_out_of_the_lock(project, locked):
    peers = {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"]["bench"]}
    assert peers == {"freia", "zuko", "nflows", "normflows"}
    assert not peers & set(locked)


def test_set_up_files_name_no_index_and_no_machine():
    forbidden = re.compile(r"https?://|file:|--(extra-)?index-url|--find-links|/(home|Users|tmp|opt)/")
    for name in ("requirements.lock", "pyproject.toml", "environment.yml", "Makefile", ".ci/run"):
        text = re.sub(r"^\[project\.urls\].*?(?=^\[)", "", (ROOT / name).read_text(), flags=re.DOTALL | re.MULTILINE)
        assert not forbidden.search(text), name


def test_make_without_a_target_explains_all_targets():
    done = subprocess.run(["make", "-s", "-C", str(ROOT)], capture_output=True, text=True, check=True)
    targets = re.findall(r"^  (\w+) ", done.stdout, flags=re.MULTILINE)
    assert {"course", "test", "lab", "train", "bench", "lint", "lock", "help"} <= set(targets)


def test_the_ci_entry_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().strip().endswith("exec make test")


def test_files_for_other_places_install_what_the_lock_says():
    """Dockerfile, Binder, development container and workflow: what can be held without running them."""
    docker = (ROOT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in docker and "USER reader" in docker
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    binder = ROOT / ".binder" / "postBuild"
    assert binder.stat().st_mode & 0o111 and "--constraint requirements.lock" in binder.read_text()
    subprocess.run(["bash", "-n", str(binder)], check=True)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    steps = {name: [step.get("run", "") for step in job["steps"]] for name, job in workflow["jobs"].items()}
    assert "make test" in steps["tests"] and "make course" in steps["course"]
    assert {"pull_request", "schedule"} <= set(workflow[True])  # YAML 1.1 reads the key `on` as true
    assert {entry["resolution"] for entry in workflow["jobs"]["versions"]["strategy"]["matrix"]["include"]} == {
        "lowest-direct",
        "highest",
    }


def test_licences_and_citation_are_complete():
    assert "MIT License" in (ROOT / "LICENSE").read_text() and "The course authors" in (ROOT / "LICENSE").read_text()
    assert "Creative Commons Attribution 4.0 International" in (ROOT / "LICENSE-CONTENT").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["authors"] == [{"name": "The course authors"}]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert citation["version"] == version
