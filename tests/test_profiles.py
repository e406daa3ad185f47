"""Profiles: quick by default; the library for matrix products may change speed but not precision."""

import pytest
import torch

from course_lib import profiles
from course_lib.errors import CourseError
from course_lib.profiles import Products


@pytest.fixture(autouse=True)
def leave_no_setting_behind():
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)
    profiles.measure_products.cache_clear()


@pytest.mark.parametrize(
    ("error", "seconds", "expected"),
    [
        (3e-7, 0.5, "medium"),  # as exact and twice as fast: an AMD processor
        (4e-3, 0.1, "highest"),  # bfloat16 inputs: ten times as fast does not make up for it
        (3e-4, 0.5, "highest"),  # TensorFloat-32
        (3e-7, 0.9, "highest"),  # as exact, but hardly faster: timing noise must not decide
        (3e-7, 2.0, "highest"),
    ],
)
def test_products_are_made_faster_but_never_less_exact(monkeypatch, error, seconds, expected):
    measured = {"highest": Products(3e-7, 1.0), "medium": Products(error, seconds)}
    monkeypatch.setattr(profiles, "measure_products", lambda: measured)
    assert profiles.matmul_precision() == expected
    profiles.setup("quick")
    assert torch.get_float32_matmul_precision() == expected
    report = profiles.environment_report()["matrix products"]
    assert f"setting '{expected}'" in report and f"{error:.0e}" in report
    profiles.setup("gpu")
    assert torch.get_float32_matmul_precision() == "highest", "on a GPU 'medium' would mean bfloat16"


def test_the_measurement_leaves_no_trace():
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    profiles.measure_products.cache_clear()
    found = profiles.measure_products()
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.rand(1) == expected
    assert 1e-8 < found["highest"].error < 2e-6 and found["highest"].seconds > 0
    assert profiles.measure_products() is found, "measured once"


def test_the_error_is_that_of_the_setting_it_stands_for(monkeypatch):
    """A product whose inputs are rounded to bfloat16 under 'medium' is found out."""
    true_product = torch.Tensor.__matmul__

    def rounded(a, b):
        if a.dtype == torch.float32 and torch.get_float32_matmul_precision() == "medium":
            return true_product(a.bfloat16().float(), b.bfloat16().float())
        return true_product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    profiles.measure_products.cache_clear()
    found = profiles.measure_products()
    assert found["medium"].error > 100 * found["highest"].error
    assert profiles.matmul_precision() == "highest"


def test_quick_is_the_default_everywhere(monkeypatch):
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    assert profiles.current().name == "quick"
    monkeypatch.setenv("COURSE_PROFILE", "cpu")
    assert profiles.current().name == "cpu" and profiles.current("gpu").name == "gpu"
    monkeypatch.setenv("COURSE_PROFILE", "fast")
    with pytest.raises(CourseError, match="quick, cpu, gpu"):
        profiles.current()
