"""The comparison: every line is a possible run, and the shipped card holds what the notebook says."""

from course_lib.bn_transfer import METHODS
from course_lib.experts.protocol import SourceModel
from course_lib.gan_training import load_codes
from course_lib.recipes import RECIPES
from course_lib.recipes.bn_transfer import COMPARISON, SHIPPED, SOURCE, TUNED, comparison_lines
from course_lib.training import load_card


def test_lines_differ_in_name_and_match_in_steps():
    lines = comparison_lines(SourceModel.load(SOURCE), load_codes(SOURCE), None, (0, 2))
    assert len({one.name for one in lines}) == len(lines) and {one.settings["method"] for one in lines} == set(METHODS)
    main = {one.name: one for one in lines[: len(TUNED)]}
    assert set(main) == set(TUNED) and all(one.seeds == 3 for one in main.values())
    assert main["propagation"].stops == main["free"].stops == (0, 3)
    assert {main[name].stops for name in ("propagation, both stages", "fine-tuning", "scratch")} == {(0, 2)}
    assert len({one.batch_size for one in lines}) == 1
    assert {f"{SOURCE}-codes", SHIPPED, COMPARISON} <= set(RECIPES)
    method, _ = main["propagation"].build(0)
    assert len(method.data.labels) == 160 and method.modules["generator"].config.classes == 8


def test_the_shipped_comparison_shows_what_the_notebook_says():
    metrics = load_card(COMPARISON).metrics
    scores = [
        name.removeprefix("scratch: ") for name in metrics if name.startswith("scratch: ") and "second" not in name
    ]
    assert len(scores) == 6
    every = {
        "propagation, both stages beats scratch": set(),
        "propagation, both stages beats fine-tuning": {"Fréchet distance, all classes"},
        "propagation beats free": {"class accuracy"},
        "propagation beats scratch": {"class accuracy"},
    }
    for pair, but in every.items():
        assert {key for key in scores if metrics[f"{pair}: {key}"] < 1.0} == but
