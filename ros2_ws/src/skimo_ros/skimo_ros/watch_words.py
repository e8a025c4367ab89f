"""What the page says, as HTML: pure functions of what was heard. Every word from a topic is escaped.

Units as the channels have them; ages s, times ms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import SpecError
from skimo_core.control.reports import PolicyReport
from skimo_core.domain.domain import Domain
from skimo_core.domain.tasks import Subtask

from .nodes import Names
from .watch_feed import Seen, verdict_words

STALE_S = 3.0
"""Policy and gate tell where they stand once a second."""
STATES_STALE_S = 1.0
DEAD_S = 4.0
"""A page that has got nothing for so long says that it is not connected."""
RED, AMBER, GREEN, GREY, BLUE = "#c92a2a", "#e67700", "#2b8a3e", "#868e96", "#1971c2"
VERDICT_COLOURS = {"PASS": GREEN, "LIMIT": AMBER, "HOLD": AMBER, "HELD": AMBER, "DOUBT": AMBER}
STATE_COLOURS = {"running": GREEN, "preparing": BLUE, "resetting": BLUE, "held": RED, "missed": AMBER}
FONT = "font-size:12px;line-height:1.35"
BOX = f"{FONT};padding:2px 10px"
SHOWN_VERDICTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What of the stack is silent.

    Attributes:
        silent: what has said nothing for too long, with its age, in words; empty while all is fresh.
        states: whether the arm's and the objects' states are fresh.
        policy, gate: whether these have spoken in time.
    """

    silent: tuple[str, ...]
    states: bool
    policy: bool
    gate: bool


def freshness(seen: Seen, now_s: float, joint_states: str, object_states: str, domain: Domain) -> Freshness:
    """What is fresh now; states of what a domain lacks are not missed."""
    bounds = {"policy": (Names.PLAN_STATUS, STALE_S), "gate": (Names.GATE, STALE_S)}
    if domain.observation.joints:
        bounds["joint states"] = (joint_states, STATES_STALE_S)
    if domain.observation.objects:
        bounds["object states"] = (object_states, STATES_STALE_S)
    old = {}
    for what, (topic, bound_s) in bounds.items():
        if (age_s := seen.age_s(topic, now_s)) > bound_s:
            old[what] = f"{what}: {'nothing yet' if math.isinf(age_s) else f'silent for {age_s:.0f} s'}"
    return Freshness(
        silent=tuple(old.values()),
        states=not {"joint states", "object states"} & set(old),
        policy="policy" not in old,
        gate="gate" not in old,
    )


def banner(seen: Seen, fresh: Freshness) -> str:
    """Whether what the page shows is so now, and what the policy is doing."""
    if fresh.silent:
        all_gone = not (fresh.policy or fresh.gate or fresh.states)
        head = "THE STACK IS GONE" if all_gone else "PARTLY SILENT"
        rest = "what is shown is how it last was" if all_gone else "what is grey is how it last was"
        return _block(RED, head, f"{rest}. {'; '.join(fresh.silent)}")
    report = seen.report
    assert report is not None
    colour = STATE_COLOURS.get(report.state, GREY)
    where = f"step {report.step}, plan {report.plan_index}" if report.episode_id else "no episode yet"
    return _block(colour, report.state.upper(), f"{where}{f': {report.reason}' if report.reason else ''}")


def alive(beat: int) -> str:
    """A warning that shows by itself once this has not been said anew for a while, with another `beat`: the page's
    dead-man, since a browser that lost its connection goes on showing what it last got."""
    return (
        f"<style>@keyframes skimo-dead {{to {{max-height:200px;padding:6px 10px}}}}</style>"
        f'<div data-beat="{beat}" style="animation:skimo-dead 0s {DEAD_S:g}s forwards;max-height:0;overflow:hidden;'
        f'background:black;color:white;{FONT}"><b style="font-size:15px">NO CONNECTION</b><br>What is shown is old, '
        "and STOP here stops nothing: use the emergency stop, or <code>skimo stop</code>. Then start "
        "<code>skimo watch</code> again.</div>"
    )


def said(text: str) -> str:
    """What came of a button."""
    bad = text.startswith(("NOT STOPPED", "not started", "nobody"))
    return _box(f'<div style="color:{RED if bad else "#343a40"};font-weight:600">{escape(text)}</div>') if text else ""


def progress(seen: Seen, domain: Domain, fresh: bool) -> str:
    """The task's sub-tasks, done, open and to come, and what the plan promises of the open one."""
    report = seen.report
    if report is None or not report.episode_id:
        return _box("no episode yet: name a task below and start it", grey=True)
    rows = []
    for k, subtask in enumerate(subtasks_of(report, domain)):
        done, now = k < report.subtasks_done, k == report.subtasks_done
        mark, colour = ("&#10003;", GREEN) if done else ("&#9654;", BLUE) if now else ("&#9675;", GREY)
        weight = "700" if now else "400"
        name = escape(subtask.name)
        rows.append(f'<div style="color:{colour};font-weight:{weight}">{mark} {name}</div>')
    promised = report.success_probability
    if math.isfinite(promised):
        rows.append(_bar("success promised", promised, f"{100 * promised:.0f} %"))
    head = f"<b>{escape(report.episode_id)}</b>: {escape(report.task)}, {report.subtasks_done}/{report.subtasks_total}"
    doubt = f'<div style="color:{AMBER}">doubt: {escape(report.doubt)}</div>' if report.doubt else ""
    return _box(f"<div>{head}</div>{''.join(rows)}{doubt}", grey=not fresh)


def subtasks_of(report: PolicyReport, domain: Domain) -> tuple[Subtask, ...]:
    """Of the task under way; none where this domain doesn't know it (the stack is another one's by now)."""
    try:
        return domain.task(report.task).subtasks if report.episode_id else ()
    except SpecError:
        return ()


def verdict(seen: Seen, fresh: bool) -> str:
    """Where the gate, the hand and the recorder stand."""
    if seen.gate is None:
        return _box("gate: nothing heard yet", grey=True)
    gate, word = seen.gate, verdict_words(seen.gate)
    colour = VERDICT_COLOURS.get(word, RED) if fresh else GREY
    badge = f'<span style="background:{colour};color:white;border-radius:4px;padding:1px 8px">{word}</span>'
    counts = f"{gate.commands} commands, {gate.limited} limited, {gate.held} held, {gate.stops} stops"
    rows = [f"<div>gate {badge} {counts}</div>"]
    rows += [f'<div style="color:{colour}">{escape(reason)}</div>' for reason in gate.decision.reasons]
    if seen.hand is not None:
        rows.append(f"<div>hand: {escape(seen.hand.words)}</div>")
    if seen.recorder is not None:
        recorder = seen.recorder
        why = f": {escape(recorder.reason)}" if recorder.reason else ""
        rows.append(f"<div>recorder: {escape(recorder.state)} {escape(recorder.file)}{why}</div>")
    return _box("".join(rows), grey=not fresh)


def log(seen: Seen) -> str:
    """The newest verdicts with their reasons, newest first."""
    rows = []
    for heard in list(seen.verdicts)[: -SHOWN_VERDICTS - 1 : -1]:
        colour = VERDICT_COLOURS.get(heard.what, RED)
        reasons = escape("; ".join(heard.reasons)) or "&nbsp;"
        rows.append(
            f'<tr><td style="color:{GREY};vertical-align:top">{heard.at}</td>'
            f'<td style="color:{colour};font-weight:700;padding:0 6px;vertical-align:top">{escape(heard.what)}</td>'
            f"<td>{reasons}</td></tr>"
        )
    return _box(f"<table>{''.join(rows)}</table>" if rows else "no verdict yet", grey=not rows)


def times(seen: Seen, fresh: bool) -> str:
    """Newest durations, and what was missed."""
    report = seen.report
    if report is None:
        return _box("nothing heard yet", grey=True)
    rows = (
        ("plan", f"{report.plan_ms:.0f} ms, {report.queue_ms:.0f} ms in the queue"),
        ("action", f"{report.act_ms:.1f} ms"),
        ("sent after it was due", f"{report.tick_late_ms:.1f} ms"),
        ("missed ticks", f"{report.missed_ticks} of {report.step}"),
        ("late plans", f"{report.late_plans} of {report.plan_index}"),
        ("bundle", escape(report.bundle_id[:12])),
    )
    cells = "".join(f'<tr><td style="color:{GREY};padding-right:8px">{k}</td><td>{v}</td></tr>' for k, v in rows)
    return _box(f"<table>{cells}</table>", grey=not fresh)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One channel to be shown: its range, and what the open sub-task wants of it (NaN: nothing)."""

    name: str
    unit: str
    low: float
    high: float
    value: float
    predicted: float
    goal: float


def gauges(
    domain: Domain,
    channels: Sequence[int],
    observation_O: npt.NDArray[np.floating],
    predicted_O: npt.NDArray[np.floating] | None,
    wanted: Subtask | None,
) -> list[Gauge]:
    """Channels as gauges; a range reaches over starts and goals, and over what is seen."""
    spec, goals = domain.observation, dict(zip(wanted.channels, wanted.goal)) if wanted else {}
    named = [*domain.subtasks.values(), *domain.goals.values()]
    found = []
    for k in channels:
        value = float(observation_O[k])
        predicted = float(predicted_O[k]) if predicted_O is not None else math.nan
        known = [float(domain.start[k]), value, predicted]
        known += [goal.goal[goal.channels.index(k)] for goal in named if k in goal.channels]
        finite = [number for number in known if math.isfinite(number)] or [0.0]
        short = max(0.0, _least_span(domain.tolerances[k]) - (max(finite) - min(finite)))
        found.append(
            Gauge(
                name=spec.names[k],
                unit=spec.units[k],
                low=min(finite) - short / 2,
                high=max(finite) + short / 2,
                value=value,
                predicted=predicted,
                goal=goals.get(k, math.nan),
            )
        )
    return found


def _least_span(tolerance: float) -> float:
    """So wide is a gauge at least: noise is not to look like motion."""
    return 2 * tolerance if math.isfinite(tolerance) else 1.0


def channels(found: Sequence[Gauge], fresh: bool) -> str:
    """Gauges as bars: where a channel stands (dark), is predicted (blue) and wanted (green)."""
    rows = []
    for gauge in found:
        span = max(gauge.high - gauge.low, 1e-9)
        marks = "".join(
            f'<div style="position:absolute;left:{100 * (at - gauge.low) / span:.1f}%;top:{top}px;width:{width}px;'
            f'height:{height}px;background:{colour};transform:translateX(-50%)"></div>'
            for at, colour, width, top, height in (
                (gauge.goal, GREEN, 4, 0, 12),
                (gauge.predicted, BLUE, 4, 2, 8),
                (gauge.value, "#212529", 6, 2, 8),
            )
            if math.isfinite(at)
        )
        unit = "" if gauge.unit == "1" else escape(gauge.unit)
        number = f"{round(gauge.value, 3) + 0.0:.3f} {unit}" if math.isfinite(gauge.value) else "not seen"
        name = f"<b>{escape(gauge.name)}</b>" if math.isfinite(gauge.goal) else escape(gauge.name)
        rows.append(
            f'<div style="display:flex;align-items:center;height:17px"><div style="width:38%;overflow:hidden;'
            f'white-space:nowrap;text-overflow:ellipsis">{name}</div>'
            f'<div style="position:relative;width:36%;height:12px;border-bottom:2px solid #ced4da">{marks}</div>'
            f'<div style="width:26%;text-align:right;font-variant-numeric:tabular-nums">{number}</div></div>'
        )
    legend = (
        f'<div style="color:{GREY}">&#9632; now, <span style="color:{BLUE}">&#9632;</span> at the plan&#39;s end, '
        f'<span style="color:{GREEN}">&#9632;</span> wanted</div>'
    )
    return _box((legend + "".join(rows)) if rows else "this domain has no such channel", grey=not fresh)


def _bar(what: str, share: float, number: str) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    colour = GREEN if share > 0.8 else AMBER if share > 0.2 else RED
    return (
        f'<div style="display:flex;align-items:center;margin-top:3px"><div style="width:42%">{what}</div>'
        f'<div style="width:42%;height:10px;background:#e9ecef;border-radius:5px"><div style="width:{width:.0f}%;'
        f'height:10px;background:{colour};border-radius:5px"></div></div>'
        f'<div style="width:16%;text-align:right">{number}</div></div>'
    )


def _block(colour: str, head: str, text: str) -> str:
    return (
        f'<div style="background:{colour};color:white;padding:6px 10px;margin-bottom:8px;{FONT}">'
        f'<div style="font-size:15px;font-weight:700">{escape(head)}</div>{escape(text)}</div>'
    )


def _box(inner: str, *, grey: bool = False) -> str:
    faded = ";opacity:0.45;filter:grayscale(1)" if grey else ""
    return f'<div style="{BOX}{faded}">{inner}</div>'
