"""A calibration's page: what fails shows, what was given is escaped, and nothing is fetched from anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from skimo_calibration.report import Criterion, Page


def page(*criteria: Criterion) -> Page:
    made = Page("Hand-eye <wrist>", "20 views & 1 board")
    made.judge(*criteria)
    made.heading("Views")
    made.table(("view", "error / px"), [("000", 0.123456), ("001", float("nan"))], "per view")
    figure = Figure()
    figure.add_subplot().plot(np.arange(3))
    made.figure(figure, "errors")
    return made


@pytest.mark.parametrize(
    ("value", "at_least", "passed"),
    [(0.2, False, True), (0.4, False, False), (0.2, True, False), (0.3, True, True), (float("nan"), False, False)],
)
def test_a_criterion_holds_at_its_bound_and_never_for_what_is_unknown(
    value: float, at_least: bool, passed: bool
) -> None:
    criterion = Criterion(name="hold-out", value=value, bound=0.3, unit="px", at_least=at_least)
    assert criterion.passed is passed and page(criterion).passed is passed
    assert page(criterion).failures == (() if passed else (criterion.words,))


def test_a_page_without_criteria_passes_nothing() -> None:
    assert not page().passed


def test_the_page_opens_by_itself(tmp_path: Path) -> None:
    good = Criterion(name="hold-out", value=0.1, bound=0.3, unit="px")
    words = page(good, Criterion(name="scatter", value=2.0, bound=1.0, unit="mm")).write(tmp_path / "a/b.html")
    text = words.read_text(encoding="utf-8")
    assert "Hand-eye &lt;wrist&gt;" in text and "20 views &amp; 1 board" in text
    assert ">FAIL<" in text and "data:image/png;base64," in text and "0.1235" in text
    assert "http://" not in text and "https://" not in text and "src=" in text
