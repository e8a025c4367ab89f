"""A check of a machine or a set-up, and what it finds; the tables of checks that distributions bring.

    [project.entry-points."skimo.doctor"]
    mylab = "mylab.doctor:CHECKS"                # CHECKS = (Check(name="door", look=door), ...)

A check looks, and changes nothing. It answers with findings, none where it has nothing to say, and may raise: an error
of ours is a finding with its words, anything else one that names the check (`doctor`).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

GROUP = "skimo.doctor"
TWIN = "twin"
DEADLINE_S = 8.0
Verdict = Literal["ok", "warn", "fail"]
GRAVITY: tuple[Verdict, ...] = ("ok", "warn", "fail")
"""From the lightest to the gravest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of what a check found.

    Attributes:
        name: what was looked at, in a word or two.
        verdict: ok; warn: it works, and may not do so well or for ever; fail: something that is asked for can't work.
        what: what was found, with values.
        remedy: how to mend it, a command where there is one; empty where nothing is wrong.
    """

    name: str
    verdict: Verdict
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the machine is to be used for.

    Attributes:
        domain: what the tasks share: a domain's name, or a file.
        robot: whose limits hold: a name, or a file; empty: the domain's.
        cell: what stands around the arm, likewise.
        bundle: what plans: a bundle's folder, or the name of one that ships; empty: the one that ships under the
            domain's name, if any.
        rig: what was measured of the cell; empty: none.
        robot_serial: of the arm that is there; empty: not compared.
        tracker: which tags sit where, for tracker_node; empty: the domain's, where there is one.
        driver: twin, or the robot's: franka_ros2, multipanda, or a file.
        namespace: of the stack, such as /left.
        endpoint: where the policy server listens.
        recordings: folder for recordings.
    """

    domain: str
    robot: str = ""
    cell: str = ""
    bundle: str = ""
    rig: str = ""
    robot_serial: str = ""
    tracker: str = ""
    driver: str = TWIN
    namespace: str = ""
    endpoint: str = "local"
    recordings: str = "recordings"

    @property
    def on_twin(self) -> bool:
        """Whether no robot is meant."""
        return self.driver == TWIN


Look = Callable[[Asked], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One entry of a table of checks; `look` ends by itself well within `deadline_s`, or is left behind."""

    name: str
    look: Look
    deadline_s: float = DEADLINE_S


def ok(name: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(name=name, verdict="ok", what=what)


def warn(name: str, what: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(name=name, verdict="warn", what=what, remedy=remedy)


def fail(name: str, what: str, remedy: str) -> Finding:
    """It can't work so."""
    return Finding(name=name, verdict="fail", what=what, remedy=remedy)


def split_remedy(name: str, verdict: Verdict, words: str) -> Finding:
    """A finding from an error's words, whose remedy follows the last semicolon."""
    what, _, remedy = words.rpartition("; ")
    return Finding(name=name, verdict=verdict, what=what or words, remedy=remedy if what else "")


def gravest(findings: Iterable[Finding]) -> Verdict:
    """The gravest verdict; ok where there is none."""
    return GRAVITY[max((GRAVITY.index(finding.verdict) for finding in findings), default=0)]


IMPORTS = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        print(name, "", flush=True)
    except BaseException as error:
        print(name, f"{type(error).__name__}: {error}".replace(chr(10), " "), flush=True)
"""


def import_faults(*modules: str, deadline_s: float = DEADLINE_S) -> dict[str, str]:
    """Import modules in a process of its own, so that a broken one takes nobody along.

    Returns:
        Why, by name, for each that can't be imported.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", IMPORTS, *modules],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=deadline_s,
            check=False,
        )
        told, last = done.stdout.decode(), f"its import ended the process (code {done.returncode})"
    except subprocess.TimeoutExpired as error:
        told, last = (error.stdout or b"").decode(), f"its import did not end within {deadline_s:g} s"
    answers = {name: why for name, space, why in (line.partition(" ") for line in told.splitlines()) if space}
    return {name: answers.get(name, last) for name in modules if answers.get(name, last)}


def imports(name: str, modules: tuple[str, ...], remedy: str, *, deadline_s: float = DEADLINE_S) -> list[Finding]:
    """A finding for each module that can't be imported, or one that all can; ends a little before a deadline."""
    faults = import_faults(*modules, deadline_s=deadline_s - 1.0)
    if not faults:
        return [ok(name, f"{', '.join(modules)} can be imported")]
    return [fail(name, f"{module} can't be imported ({why})", remedy) for module, why in faults.items()]
