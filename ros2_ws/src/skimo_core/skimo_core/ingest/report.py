"""What an import made, for people: a text, a JSON of the same, and a picture of the trajectories.

Units are the domain's. The picture needs matplotlib (extra `ingest`); without it the rest is written, and that is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..contract.errors import EpisodeError
from ..domain.domain import Domain
from ..domain.robot import load_limits
from ..episodes.files import write_atomic
from .execution import Executed, execute
from .pictures import draw
from .pipeline import Imported

STILL = 1e-6
"""A channel whose values differ by no more, in its unit, never moved."""
AT_LIMIT = 0.999
"""An action this large is at its limit."""
STILL_WORDS = "never moved: can't be a goal, and the model learns nothing of it"
JSON_NAME, PICTURE_NAME = "import.json", "import.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelReport:
    """Of a channel or action over all episodes: least and greatest value, and whether it ever changed."""

    name: str
    unit: str
    low: float
    high: float
    still: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What one source gave."""

    name: str
    format: str
    digest: str
    robot: str
    licence: str
    licence_by: str
    mappings: tuple[str, ...]
    mapping_digests: tuple[str, ...]
    sessions: int
    episodes: int
    steps: int
    dropped: tuple[str, ...]
    dropped_s: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an import made.

    Attributes:
        domain, robot: names with digests, in words.
        digest: of the episodes, as training names it.
        clipped_share: of the arm's actions that lay beyond their bounds and were clipped; most_beyond: the greatest of
            them, in bounds.
        at_limit_share: of the arm's actions (without an arm: of all) that are at -1 or 1.
        executed: what the actions do when they are executed; None: there is no arm.
    """

    domain: str
    robot: str
    rate_hz: float
    episodes: int
    steps: int
    seconds: float
    digest: str
    sources: tuple[SourceReport, ...]
    channels: tuple[ChannelReport, ...]
    actions: tuple[ChannelReport, ...]
    clipped_share: float
    most_beyond: float
    at_limit_share: float
    executed: Executed | None

    @property
    def still(self) -> tuple[str, ...]:
        """Channels that never moved."""
        return tuple(channel.name for channel in self.channels if channel.still)


def report_of(imports: Sequence[tuple[str, Imported]], domain: Domain, digest: str) -> Report:
    """The report on named sources' imports, of which at least one has an episode."""
    episodes = [episode for _, found in imports for episode in found.episodes]
    made = [part for _, found in imports for part in found.made]
    robot, spec = load_limits(domain.robot), domain.observation
    observations = np.concatenate([episode.observations for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    bounded = actions[:, : domain.action.joints or domain.action.size]
    steps = len(actions)
    return Report(
        domain=str(domain.named),
        robot=str(robot.named),
        rate_hz=domain.action.rate_hz,
        episodes=len(episodes),
        steps=steps,
        seconds=steps / domain.action.rate_hz,
        digest=digest,
        sources=tuple(_source(name, found) for name, found in imports),
        channels=_ranges(observations, spec.names, spec.units),
        actions=_ranges(actions, domain.action.names, ("1",) * domain.action.size),
        clipped_share=sum(part.clipped for part in made) / bounded.size,
        most_beyond=max(part.most for part in made),
        at_limit_share=float((np.abs(bounded) >= AT_LIMIT).mean()),
        executed=execute(episodes, domain, robot),
    )


def check_moves(report: Report) -> None:
    """Raises EpisodeError if no channel of any episode ever moved: whatever that is, it is no recording of motion."""
    if len(report.still) == len(report.channels):
        first = report.channels[0]
        raise EpisodeError(
            f"{', '.join(source.name for source in report.sources)}: none of {len(report.channels)} channels ever "
            f"moves in {report.episodes} episodes, {report.steps} steps ({first.name} stays {first.low:.6g} "
            f"{first.unit}): there is nothing to learn; look whether the mapping names the right fields, and whether "
            "they were recorded"
        )


def lines(report: Report) -> list[str]:
    """Text for people, a line each; the last is the sum."""
    said = [f"domain {report.domain} robot {report.robot}"]
    for source in report.sources:
        said += _source_lines(source)
    said += [_range_line(channel) for channel in report.channels]
    said += [f"  {action.name:<24} stays {action.low:.4g}" for action in report.actions if action.still]
    said += _action_lines(report)
    return [*said, f"ingested {report.episodes} episodes {report.steps} steps digest {report.digest}"]


def write_report(folder: Path, report: Report, imports: Sequence[tuple[str, Imported]], domain: Domain) -> list[str]:
    """Write JSON and picture into the folder; returns a line on each."""
    text = json.dumps(asdict(report), indent=1, sort_keys=True)
    write_atomic(folder / JSON_NAME, f"{text}\n".encode())
    said = [f"report {folder / JSON_NAME}"]
    try:
        draw(folder / PICTURE_NAME, report, [e for _, found in imports for e in found.episodes], domain)
    except ImportError:
        return [*said, "no picture: matplotlib is missing (pip install 'skimo_core[ingest]')"]
    return [*said, f"picture {folder / PICTURE_NAME}"]


def _source(name: str, found: Imported) -> SourceReport:
    return SourceReport(
        name=name,
        format=found.about.format,
        digest=found.about.digest,
        robot=found.about.robot,
        licence=found.licence,
        licence_by=found.licence_by,
        mappings=tuple(mapping.name for mapping in found.mappings),
        mapping_digests=tuple(mapping.named.digest for mapping in found.mappings),
        sessions=found.sessions,
        episodes=len(found.episodes),
        steps=sum(episode.steps for episode in found.episodes),
        dropped=tuple(map(str, found.dropped)),
        dropped_s=sum(dropped.seconds for dropped in found.dropped),
        notes=found.notes,
    )


def _ranges(rows: np.ndarray, names: Sequence[str], units: Sequence[str]) -> tuple[ChannelReport, ...]:
    low, high = rows.min(0).astype(float), rows.max(0).astype(float)
    return tuple(
        ChannelReport(name=name, unit=unit, low=float(a), high=float(b), still=bool(b - a <= STILL))
        for name, unit, a, b in zip(names, units, low, high)
    )


def _source_lines(source: SourceReport) -> list[str]:
    mappings = ", ".join(f"{n} ({digest[:12]})" for n, digest in zip(source.mappings, source.mapping_digests))
    said = [
        f"{source.name}: {source.format}, digest {source.digest[:12]}, licence {source.licence} (by the "
        f"{source.licence_by}), mapping {mappings or 'none'}: {source.sessions} sessions, {source.episodes} episodes, "
        f"{source.steps} steps"
    ]
    said += [f"{source.name}: {note}" for note in source.notes]
    if source.dropped:
        said += [f"{source.name}: {len(source.dropped)} left out, {source.dropped_s:.1f} s of them timed"]
    return said


def _range_line(channel: ChannelReport) -> str:
    tail = f"  {STILL_WORDS}" if channel.still else ""
    return f"  {channel.name:<24} {channel.low:>10.4g} .. {channel.high:<10.4g} {channel.unit}{tail}".rstrip()


def _action_lines(report: Report) -> list[str]:
    said = [f"actions: {report.at_limit_share:.2%} at the limit"]
    if report.clipped_share:
        said[0] += (
            f", {report.clipped_share:.2%} clipped there (the greatest was {report.most_beyond:.3g} times the bound)"
        )
    if report.executed is not None:
        done = report.executed
        said += [
            f"executed, {done.steps} steps of them lead to within {done.median_rad:.3g} rad of the recording "
            f"(median; {done.most_rad:.3g} at most; joints went {done.moved_rad:.3g} rad from where they began)"
        ]
    return said
