"""A calibration's page: one HTML file with verdicts, tables and pictures, that opens without a network.

    page = Page("Hand-eye calibration", "camera wrist of rig lab, 20 views")
    page.judge(Criterion(name="hold-out reprojection", value=0.14, bound=0.3, unit="px"))
    page.table(("view", "error / px"), rows, "...")
    page.figure(figure, "...")                       a matplotlib Figure
    page.write(folder / "hand_eye.html")

A figure of merit that the fit reports of itself goes into a table, never into a verdict: verdicts judge hold-out data,
repetitions or an independent check.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "page.html"
DPI = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A figure held against its tolerance.

    Attributes:
        name: what was measured.
        value: of it; NaN fails.
        bound: the largest that passes, or the smallest where `at_least`.
        unit: of both.
        at_least: whether more is better.
    """

    name: str
    value: float
    bound: float
    unit: str = ""
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return bool(self.value >= self.bound if self.at_least else self.value <= self.bound)

    @property
    def words(self) -> str:
        """In a line: what, the value, the bound."""
        sign, unit = "at least" if self.at_least else "at most", f" {self.unit}" if self.unit else ""
        return f"{self.name} {self.value:.3g}{unit} ({sign} {self.bound:g}{unit})"


class Page:
    """Collects what a calibration has to show, in order."""

    def __init__(self, title: str, about: str) -> None:
        self.title, self.about = title, about
        self.criteria: list[Criterion] = []
        self._parts: list[dict[str, object]] = []

    def judge(self, *criteria: Criterion) -> None:
        """Add figures held against tolerances; they stand at the top of the page."""
        self.criteria.extend(criteria)

    @property
    def passed(self) -> bool:
        """Whether all of them pass, and there are any."""
        return bool(self.criteria) and all(criterion.passed for criterion in self.criteria)

    @property
    def failures(self) -> tuple[str, ...]:
        """In words, those that don't."""
        return tuple(criterion.words for criterion in self.criteria if not criterion.passed)

    def heading(self, text: str) -> None:
        self._parts.append({"kind": "heading", "text": text})

    def text(self, text: str) -> None:
        self._parts.append({"kind": "text", "text": text})

    def link(self, page: str, what: str) -> Page:
        """Add a link to another page beside this one."""
        self._parts.append({"kind": "link", "page": page, "what": what})
        return self

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        """Add a table; numbers are shown to four digits."""
        shown = [[_shown(cell) for cell in row] for row in rows]
        self._parts.append({"kind": "table", "head": list(head), "rows": shown, "caption": caption})

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a matplotlib figure."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
        self.picture(buffer.getvalue(), caption)

    def picture(self, png: bytes, caption: str) -> None:
        """Add a picture, PNG or JPEG."""
        kind = "jpeg" if png[:2] == b"\xff\xd8" else "png"
        source = f"data:image/{kind};base64,{base64.b64encode(png).decode()}"
        self._parts.append({"kind": "picture", "source": source, "caption": caption})

    def write(self, path: Path) -> Path:
        """Write the page; returns its path."""
        template = Path(__file__).with_name(TEMPLATE).read_text(encoding="utf-8")
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(environment.from_string(template).render(page=self, parts=self._parts), encoding="utf-8")
        return path


def _shown(cell: object) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
