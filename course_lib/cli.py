"""The ``course`` command. Heavy things are imported when a command needs them, so that ``--help`` is instant. Bad input
ends with one line and status 2, before anything long runs."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from course_lib.errors import CourseError, explain

UsageError = typer.BadParameter.mro()[2]  # click's exception, or by version typer's copy of it

_PLAIN = {"no_args_is_help": True, "add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
app = typer.Typer(help="Run, list and look after the notebooks of the course.", **_PLAIN)
data_app = typer.Typer(help="Build or check the bundled data set.", **_PLAIN)
app.add_typer(data_app, name="data")


ProfileOption = Annotated[Literal["quick", "cpu", "gpu"], typer.Option(help="How much to compute.")]
SettingOption = Annotated[list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Repeatable.")]
ArcOption = Annotated[bool | None, typer.Option("--spherical/--straight", help="Default: z on an arc, classes not.")]
_KINDS = "class-grid, truncation, mixing, class-mixing; walks class, noise, class-noise, random-z, z-shift, class-shift"
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of z and of the noise maps.")]


@app.command()
def run(
    notebooks: Annotated[list[str], typer.Argument(help="Numbers, names or paths of notebooks, or 'all'.")],
    param: SettingOption = None,
    profile: ProfileOption = "quick",
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks at a time.")] = 1,
    cell_timeout: Annotated[int | None, typer.Option(min=1, help="Seconds per cell (default: by profile).")] = None,
    store: Annotated[bool, typer.Option("--store", help="Write outputs and cost back into the notebooks.")] = False,
    measure: Annotated[bool, typer.Option("--measure", help="Write only the cost back.")] = False,
) -> None:
    """Execute notebooks headlessly into runs/<time>/ with pages, an index and summary.json."""
    from course_lib.runner.catalog import find_notebooks, split_assignments
    from course_lib.runner.session import run_notebooks, store_run

    given = split_assignments(param or [])
    if given and (store or measure):
        raise CourseError("--store and --measure need the default parameters: leave out -p")
    chosen = find_notebooks(notebooks)
    folder, results = run_notebooks(chosen, profile, jobs, cell_timeout, given, tell=typer.echo)
    passed = [pair for pair in zip(chosen, results, strict=True) if pair[1].status == "ok"]
    for notebook, result in passed if store or measure else ():
        store_run(notebook, result, profile, folder / f"{result.notebook}.ipynb" if store else None)
    typer.echo(f"{len(passed)} of {len(results)} notebooks passed; see {folder / 'index.html'}")
    interrupted = any(result.status == "interrupted" for result in results)
    raise typer.Exit(130 if interrupted else int(len(passed) < len(results)))


@app.command("list")
def list_notebooks() -> None:
    """List the notebooks with their parameters and what they were measured to cost."""
    from course_lib.runner.catalog import find_notebooks, notebook_parameters

    for notebook in find_notebooks(["all"]):
        if notebook.problem:  # one broken file must not hide the others
            typer.echo(f"{notebook.number}  {notebook.problem}")
            continue
        typer.echo(f"{notebook.number}  {notebook.title}")
        for profile, cost in notebook.measured.items():
            typer.echo(f"      measured, {profile}: {cost['seconds']} s, {cost['memory_mb']} MB")
        for parameter in notebook_parameters(notebook):
            typer.echo(f"      -p {parameter.name}={parameter.default}  ({parameter.type}) {parameter.meaning}")


@app.command()
def doctor() -> None:
    """Report on this machine and say what to do about each problem."""
    from course_lib.profiles import environment_report
    from course_lib.runner.doctor import examine

    for name, value in environment_report().items():
        typer.echo(f"{name:16} {value}")
    problems = examine()
    for topic, remedy in problems.items():
        typer.echo(f"problem: {topic}: {remedy}")
    typer.echo(f"{len(problems)} problem(s) found" if problems else "all checks passed")
    raise typer.Exit(int(bool(problems)))


@app.command("train")
def train_checkpoint(
    name: Annotated[str | None, typer.Argument(help="Which checkpoint; --list shows them.")] = None,
    param: SettingOption = None,
    profile: ProfileOption = "cpu",
    show: Annotated[bool, typer.Option("--list", help="List what can be trained.")] = False,
) -> None:
    """Train a shipped checkpoint from scratch, or the same network on your data (-p dataset=, -p size=)."""
    from course_lib import profiles, recipes
    from course_lib.recipes.recipe import Job
    from course_lib.runner.catalog import split_assignments
    from course_lib.runner.session import restart_with_settings

    if show or name is None:
        typer.echo("\n".join(recipes.RECIPES))
        raise typer.Exit(0 if show else 2)
    options = _job_options(split_assignments(param or []))
    job = Job(profiles.Profile(profile), **options)
    job.profile.device  # noqa: B018 - a missing GPU is reported first
    recipes.check(name, job)
    for folder in (job.out, job.work):
        profiles.ensure_writable(folder)
    restart_with_settings()
    recipes.train(name, profile, **options)


_JOB_OPTIONS = dict.fromkeys(("out", "work", "precision", "dataset", "space"), ("str", 0.0)) | {"force": ("bool", 0.0)}
_JOB_OPTIONS |= dict.fromkeys(("steps", "accumulate", "size"), ("int", 1)) | {"seed": ("int", 0)}
_JOB_OPTIONS["seconds"] = "float", 1e-9
"""Field of a recipe's job → its type and smallest value."""


def _job_options(given: dict[str, str]) -> dict[str, object]:
    """Options as fields of a recipe's job, folders as paths."""
    from course_lib.runner.catalog import parse_value

    options: dict[str, object] = {}
    for name, text in given.items():
        if name not in _JOB_OPTIONS:
            raise CourseError(f"there is no option '{name}'; valid: {', '.join(_JOB_OPTIONS)}")
        try:
            value = parse_value(text, *_JOB_OPTIONS[name])
        except ValueError as error:
            raise CourseError(f"{text!r} {error} for the option '{name}'") from None
        options[name] = Path(text).expanduser() if name in ("out", "work") else value
    known = ("32-true", "bf16-mixed", "16-mixed")
    if (asked := options.get("precision", known[0])) not in known:
        raise CourseError(f"there is no precision {asked!r}: choose one of {', '.join(known)}")
    return options


@app.command()
def released(path: Annotated[Path, typer.Argument(help="A checkpoint that the authors of a paper released.")]) -> None:
    """Say what a file with released weights holds, and whether every name and shape is right."""
    from course_lib.released.reading import describe_file

    typer.echo(describe_file(path))


@app.command()
def generate(
    checkpoint: Annotated[str, typer.Argument(help="A shipped generator such as avatar-biggan, or the path of one.")],
    kind: Annotated[str, typer.Option(help=_KINDS)] = "class-grid",
    out: Annotated[Path, typer.Option(help="File for the picture.")] = Path("generated.png"),
    classes: Annotated[str, typer.Option(help="Names, with commas between; by default the generator's own.")] = "",
    steps: Annotated[int, typer.Option(min=2, max=100, help="Columns.")] = 8,
    rows: Annotated[int, typer.Option(min=1, max=100, help="Rows, where classes do not make them.")] = 4,
    seed: SeedOption = 0,
    truncation: Annotated[float, typer.Option(min=-2, max=5, help="1: everything; 0: the mean.")] = 1.0,
    cut: Annotated[int, typer.Option(min=0, max=20, help="Coarse layers, where layers are mixed.")] = 2,
    reach: Annotated[float | None, typer.Option(min=-100, max=100, help="How far the shifts go.")] = None,
    spherical: ArcOption = None,
    fresh_noise: Annotated[bool, typer.Option("--fresh-noise", help="New noise maps in every step.")] = False,
    enlarge: Annotated[int, typer.Option(min=1, max=16, help="Pixels of the file for each of a picture.")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Draw from a trained generator: classes, truncation, mixed styles, walks."""
    from course_lib.generation.generator import Walk, draw_kind, open_generator, save_grid

    if out.exists() and not force:
        raise CourseError(f"{out} exists: give another --out, or --force to replace it")
    walk = Walk(_names(classes), steps, rows, seed, truncation, spherical, fresh_noise, cut, reach)
    save_grid(draw_kind(open_generator(checkpoint), kind, walk), out, enlarge)
    typer.echo(f"wrote {out}")


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A folder of generators and their cards, or one generator.")],
    dataset: Annotated[str, typer.Option(help="kinds, folder:PATH, or another set of real pictures.")] = "kinds",
    part: Annotated[Literal["train", "val", "test", "all"], typer.Option(help="all: a set without parts.")] = "test",
    features: Annotated[Literal["judge", "inception"], typer.Option(help="What compares them.")] = "judge",
    classes: Annotated[str, typer.Option(help="Only these, with commas between.")] = "",
    samples: Annotated[int | None, typer.Option(min=6, max=100_000, help="A class; default: as many as real.")] = None,
    seed: SeedOption = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and scores.png.")] = None,
    profile: ProfileOption = "cpu",
) -> None:
    """Score generators against held-out pictures: all classes together (and the mean over classes)."""
    from course_lib import profiles
    from course_lib.data.published import check_dataset
    from course_lib.generation.scoring import Evaluation, score_folder

    check_dataset(dataset)
    folder = profiles.ensure_writable(out or profiles.RUNS / "scores" / Path(checkpoint).resolve().stem)
    evaluation = Evaluation(dataset, part, features, _names(classes), samples, seed)
    score_folder(checkpoint, evaluation, folder, profiles.Profile(profile).device, typer.echo)
    typer.echo(f"wrote {folder / 'scores.json'} and {folder / 'scores.png'}")


def _names(text: str) -> tuple[str, ...]:
    """``"a, b"`` as names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command("fetch")
def fetch_files(
    name: Annotated[str | None, typer.Argument(help="Which; without a name all are listed.")] = None,
    to: Annotated[Path | None, typer.Option(help="Folder; by default downloads/NAME.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Agree to the terms without being asked.")] = False,
) -> None:
    """Download released weights or a public data set; size and licence are shown first."""
    from course_lib.fetch import fetch_command

    fetch_command(name, to, yes)


@app.command()
def student(
    out: Annotated[Path | None, typer.Option(help="Folder; by default student/ in the repository.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace notebooks that are there.")] = False,
) -> None:
    """Write the notebooks without their solutions, for a class."""
    from course_lib import profiles
    from course_lib.teaching import write_student_notebooks

    written = write_student_notebooks(out or profiles.ROOT / "student", force)
    typer.echo(f"wrote {len(written)} notebooks to {written[0].parent}")


@app.command("grade")
def grade_notebooks(
    notebooks: Annotated[list[Path], typer.Argument(help="Notebooks that were handed in; they are executed.")],
    out: Annotated[Path, typer.Option(help="File for the results, as JSON.")] = Path("results.json"),
) -> None:
    """Execute notebooks and write which checks of their exercises pass."""
    from course_lib.teaching import grade

    grade(notebooks, out, typer.echo)
    typer.echo(f"wrote {out}")


@app.command(hidden=True)
def env() -> None:
    """Print the settings a process should start with, as shell lines (the Makefile uses them)."""
    from course_lib.profiles import process_environment

    typer.echo("\n".join(f"export {name}={value}" for name, value in process_environment().items()))


@data_app.command("build")
def data_build(
    again: Annotated[bool, typer.Option(help="Draw what is there already, too.")] = False,
    record: Annotated[bool, typer.Option(help="For maintainers: make the result the course's.")] = False,
) -> None:
    """Draw the avatars into the cache: people, kinds and parts (a minute and a half on two cores)."""
    from course_lib.data import avatars

    if record:
        avatars.record()
    for block in avatars.BLOCKS:
        typer.echo(f"{block}: {avatars.build(block, again).name}")


@data_app.command("check")
def data_check() -> None:
    """Compare the pictures in the cache, every byte of them, with their recorded hashes."""
    from course_lib.data import avatars

    avatars.check_recipe()
    found = avatars.check()
    typer.echo("\n".join(f"{block}: {state}" for block, state in found.items()))
    if "damaged" in found.values():
        raise CourseError("some pictures in the cache are damaged: `course data build` draws them again.")


def main() -> None:
    """Entry point: bad input ends with one line and status 2, what the system refuses with one line and status 1."""
    status = 2
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except UsageError as error:
        asked = type(error).__name__ == "NoArgsIsHelpError"  # a command alone: its help is the answer
        message = error.format_message() if asked else f"error: {' '.join(error.format_message().split())}"
    except CourseError as error:
        message = f"error: {' '.join(str(error).split())}"
    except typer.Abort:
        status, message = 130, "interrupted"
    except BrokenPipeError:  # the reader of our output has gone, as in `course list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        status, message = 1, f"error: {explain(error)}"
    print(message, file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    main()
