"""`skimo doctor`: what is missing on this machine and in this set-up, line by line, with how to mend it.

Promises
  - The checks are those that installed distributions bring (`finding.GROUP`), so each layer looks at its own; a table
    that can't be imported is a finding, and so is a check that raises.
  - Each check has a deadline; one that misses it is a finding and is left behind. All run at once, so the whole takes
    about as long as the slowest.
  - It looks and changes nothing. Exit code 1 if anything fails; warnings don't count.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import tyro

from ..contract.errors import SkimoError
from ..domain.domain import DEFAULT
from .finding import GROUP, Asked, Check, Finding, fail, gravest, split_remedy

MARKS = {"ok": "ok   ", "warn": "WARN ", "fail": "FAIL "}


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorArgs(Asked):
    """Say what is missing on this machine and in this set-up, and how to mend it; exit code 1 if anything fails.

    Attributes:
        json: print findings as JSON.
        quiet: print only what is to be mended.
    """

    domain: str = DEFAULT
    json: bool = False
    quiet: bool = False


def doctor(argv: list[str]) -> int:
    """Say what is missing on this machine and in this set-up, and how to mend it."""
    args = tyro.cli(DoctorArgs, args=argv, prog="skimo doctor")
    findings = examine(args, installed_checks())
    if args.json:
        rows = [asdict(finding) for finding in findings]
        print(json.dumps({"verdict": gravest(findings), "findings": rows}, indent=1))
    else:
        print("\n".join(told(findings, quiet=args.quiet)))
    sys.stdout.flush()
    code = 1 if gravest(findings) == "fail" else 0
    if any(thread.name.startswith(THREADS) for thread in threading.enumerate()):
        os._exit(code)  # a check that was left behind may hold a library that can't be unloaded under it
    return code


def installed_checks() -> list[Check]:
    """The tables of all installed distributions, core's first; a table that can't be had is a check that says so."""
    entries = sorted(metadata.entry_points(group=GROUP), key=lambda entry: (entry.name != "core", entry.name))
    return [check for entry in entries for check in _table(entry)]


def _table(entry: metadata.EntryPoint) -> Sequence[Check]:
    try:
        return tuple(entry.load())
    except Exception as error:  # another package's code: whatever it raises means that it can't be asked
        words, value = f"{type(error).__name__}: {error}", entry.value
        return (Check(name=entry.name, look=lambda asked: [_no_table(entry.name, value, words)]),)


def _no_table(name: str, value: str, words: str) -> Finding:
    return fail(name, f"its checks ({value}) can't be loaded: {words}", "install that distribution again, or remove it")


THREADS = "skimo doctor: "


def examine(asked: Asked, checks: Sequence[Check]) -> list[Finding]:
    """What all checks find, in their order; each is given its deadline, counted from the common start."""
    found: list[list[Finding] | None] = [None] * len(checks)

    def run(index: int, check: Check) -> None:
        found[index] = findings_of(check, asked)

    threads = [
        threading.Thread(target=run, args=item, name=THREADS + item[1].name, daemon=True) for item in enumerate(checks)
    ]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for check, thread in zip(checks, threads):
        thread.join(max(0.0, began_s + check.deadline_s - time.monotonic()))
    return [finding for check, rows in zip(checks, found) for finding in (_late(check) if rows is None else rows)]


def findings_of(check: Check, asked: Asked) -> list[Finding]:
    """What one check finds; what it raises is a finding too."""
    try:
        return list(check.look(asked))
    except SkimoError as error:
        return [split_remedy(check.name, "fail", str(error))]
    except Exception as error:  # whatever it is: the other checks go on
        what = f"the check itself failed: {type(error).__name__}: {' '.join(str(error).split())}"
        return [fail(check.name, what, "please report this with the output of `skimo doctor --json`")]


def _late(check: Check) -> list[Finding]:
    what = f"no answer within {check.deadline_s:g} s"
    return [fail(check.name, what, "look what keeps this machine so busy, or what hangs, and ask again")]


def told(findings: Sequence[Finding], *, quiet: bool = False) -> list[str]:
    """The findings as lines of text, and a last line that counts them."""
    lines = []
    for finding in findings:
        if quiet and finding.verdict == "ok":
            continue
        lines.append(f"{MARKS[finding.verdict]} {finding.name}: {finding.what}")
        if finding.remedy:
            lines.append(f"       -> {finding.remedy}")
    counts = {verdict: sum(f.verdict == verdict for f in findings) for verdict in MARKS}
    return [*lines, f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} to mend"]
