"""From a source's sessions to episodes of a domain.

Promises
  - What comes out has the domain's channels and actions in its units and at its rate, and says where it comes from:
    format and digest of the source, the mapping and its digest, the licence.
  - What doesn't fit is refused by file, session or episode, field, value and bound; or left out on request. What is
    left out is listed with its reason: nothing goes in silence.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..contract.errors import EpisodeError
from ..contract.specs import Named
from ..domain.domain import Domain
from ..domain.robot import RobotLimits, load_limits
from ..episodes.episode import Episode, EpisodeMeta
from .actions import Made
from .building import Short, build
from .mapping import Mapping
from .mapping_file import find_mappings
from .parts import Notes, described, parts_of, spans_of
from .source import About, Session, Source
from .taking import check_fields

NOT_STATED = "not stated"
"""As a licence: nobody knows, and that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What was left out.

    Attributes:
        what: a session, an episode, rows.
        why: in words.
        seconds: of it; 0 where that isn't known.
    """

    what: str
    why: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a source gave.

    Attributes:
        about: the source.
        licence: of the data.
        licence_by: who says so: "source", "mapping" or "command line".
        mappings: that were used.
        episodes: in order.
        made: of each episode, how its actions came about.
        dropped: what was left out, because of damage only if that was asked for.
        notes: what a reader should know, each once.
        sessions: how many there were.
    """

    about: About
    licence: str
    licence_by: str
    mappings: tuple[Mapping, ...]
    episodes: tuple[Episode, ...]
    made: tuple[Made, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    sessions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    """One under way."""

    file: str
    domain: Domain
    robot: RobotLimits
    mappings: tuple[Mapping, ...]
    one_episode: bool
    skip_damaged: bool
    meta: EpisodeMeta
    episodes: list[Episode] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    used: dict[str, Mapping] = field(default_factory=dict)

    def leave(self, what: str, error: EpisodeError | str, seconds: float = 0.0) -> None:
        """Leave something out that is damaged, or raise.

        Raises:
            EpisodeError: unless damage is skipped.
        """
        said = str(error).removeprefix(f"{self.file}: ").removeprefix(f"{what}: ")
        if not self.skip_damaged:
            advice = "" if "--skip-damaged" in said else "; or leave it out with --skip-damaged"
            raise EpisodeError(f"{self.file}: {what}: {said}{advice}")
        self.dropped.append(Dropped(what=f"{self.file}: {what}", why=said, seconds=seconds))


def read(
    path: Path,
    *,
    domain: Domain,
    mapping: str | Path = "",
    format: str = "auto",
    licence: str = "",
    one_episode: bool = False,
    skip_damaged: bool = False,
) -> Imported:
    """Read every episode of a recording.

    Args:
        domain: whose channels and actions they get.
        mapping: name or path; where none is given, the first of the domain's known ones that has the file's fields.
        format: what the file is; auto: what its content says.
        licence: of the data, where neither the source nor the mapping names one.
        one_episode: a session in which no end is marked is one episode.
        skip_damaged: leave out what doesn't fit, and list it, instead of raising at the first.

    Raises:
        EpisodeError: it can't be read, names no licence, or something in it does not fit.
        SpecError: the mapping can't be had, or is malformed.
        SetupError: what reads the format is not installed.
    """
    from .formats import open_source

    mappings = find_mappings(mapping, domain)
    return ingest_source(
        open_source(path, format),
        path.name,
        domain=domain,
        mappings=mappings,
        licence=licence,
        one_episode=one_episode,
        skip_damaged=skip_damaged,
    )


def ingest_source(
    source: Source,
    file: str,
    *,
    domain: Domain,
    mappings: tuple[Mapping, ...],
    licence: str = "",
    one_episode: bool = False,
    skip_damaged: bool = False,
) -> Imported:
    """Every episode of a source; `file` is what it is called in errors. Else as `read`.

    Raises:
        EpisodeError: see `read`.
    """
    about, robot = source.about(), load_limits(domain.robot)
    meta = EpisodeMeta(
        episode_id="",
        source="import",
        domain=domain.named,
        robot=robot.named,
        origin=Named(name=f"{about.format} {file}", digest=about.digest),
        rate_hz=domain.action.rate_hz,
        channels=domain.observation.names,
    )
    state = _Import(
        file=file,
        domain=domain,
        robot=robot,
        mappings=mappings,
        one_episode=one_episode,
        skip_damaged=skip_damaged,
        meta=meta,
    )
    sessions = 0
    for session in source.sessions(skip_damaged=skip_damaged):
        sessions += 1
        _session(session, state)
    if not state.episodes:
        left = f": {len(state.dropped)} are left out, the first: {state.dropped[0]}" if state.dropped else ""
        raise EpisodeError(f"{file}: holds no episodes{left}")
    said, by = _licence(about, tuple(state.used.values()) or mappings, licence, file)
    return Imported(
        about=about,
        licence=said,
        licence_by=by,
        mappings=tuple(state.used.values()),
        episodes=tuple(replace(e, meta=replace(e.meta, licence=said)) for e in state.episodes),
        made=tuple(state.made),
        dropped=tuple(state.dropped),
        notes=(*about.notes, *state.notes.told()),
        sessions=sessions,
    )


def _licence(about: About, mappings: tuple[Mapping, ...], given: str, file: str) -> tuple[str, str]:
    named = next((mapping.licence for mapping in mappings if mapping.licence), "")
    for words, by in ((about.licence, "source"), (named, "mapping"), (given, "command line")):
        if words:
            return words, by
    raise EpisodeError(
        f"{file}: neither the recording nor the mapping names a licence; say it with --licence, or in the mapping "
        f"(licence: ...); --licence {NOT_STATED!r} records that nobody knows"
    )


def _session(session: Session, state: _Import) -> None:
    """Add a session's episodes."""
    what = f"session {session.name}"
    if session.damage and not session.signals:
        state.leave(what, session.damage)
        return
    if session.damage:
        state.notes.add(f"{what} is damaged, and here as far as it can be read: {session.damage}")
    try:
        mapping = _chosen(session, state)
        parts = parts_of(session, mapping, state.domain, state.robot, state.notes)
        spans = spans_of(parts, state.notes, one_episode=state.one_episode)
    except EpisodeError as error:
        state.leave(what, error)
        return
    for index, span in enumerate(spans):
        label = _label(session, index, len(spans))
        origin = replace(state.meta.origin, name=f"{state.meta.origin.name}: {label}")
        meta = replace(state.meta, episode_id=label, origin=origin, mapping=mapping.named)
        try:
            made = build(span, parts, meta, state.notes, state.file)
        except EpisodeError as error:
            state.leave(f"episode {label}", error, parts.seconds(span))
            continue
        if isinstance(made, Short):
            state.dropped.append(Dropped(what=f"{state.file}: episode {label}", why=made.why, seconds=made.seconds))
        else:
            state.episodes.append(made[0])
            state.made.append(made[1])


def _label(session: Session, index: int, count: int) -> str:
    """What an episode is called: as its session, or by its number where that holds several."""
    if session.whole:
        return session.name if count == 1 else f"{session.name}.{index}"
    return f"{session.name.rpartition('/')[0]}/{index}".lstrip("/")


def _chosen(session: Session, state: _Import) -> Mapping:
    """The first mapping that has all it takes.

    Raises:
        EpisodeError: none has; says of each why not.
    """
    whys = []
    for mapping in state.mappings:
        try:
            check_fields(session, mapping.fields(), mapping.widths)
        except EpisodeError as error:
            whys.append(f"mapping {mapping.name}: {error}")
            continue
        if mapping.name not in state.used:
            state.used[mapping.name] = mapping
            state.notes.add(described(session, mapping, state.domain))
        return mapping
    domain = state.domain
    if len(whys) == 1:
        raise EpisodeError(whys[0])
    short = "; ".join(why.partition("; name the data's")[0] for why in whys)
    raise EpisodeError(
        f"no mapping of domain {domain.name!r} ({domain.observation.size} channels, {domain.action.size} actions) "
        f"fits: {short}; name the data's own domain with --domain, or describe its fields in a file for --mapping "
        "(skimo ingest --draft FILE writes one to begin with)"
    )
