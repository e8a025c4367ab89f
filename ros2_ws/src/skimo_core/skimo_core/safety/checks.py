"""The table of all checks, and how their findings become one verdict.

A check takes the `Situation` (the command, the robot, the clock, the motion that the command would make) and returns a
`Finding` or None. It changes nothing and knows of no other check; the gate takes the most restrictive verdict.
  STOP   the robot or what is known of it is not fit to move: lost, missing, non-finite, an error mode
  HOLD   this command is not fit to be followed; the one before it still ends at rest
  LIMIT  this command asks a little too much; as much of it as the limits allow may pass
Units rad, s, m.
"""

from __future__ import annotations

from ..contract.types import Verdict
from ..domain.robot import RobotLimits
from .command_checks import COMMAND_CHECKS, FORM_CHECKS
from .motion_checks import MOTION_CHECKS
from .robot_checks import ROBOT_CHECKS
from .situation import Check, Finding, GateConfig, Motion, Situation, foresee

CHECKS: tuple[Check, ...] = ROBOT_CHECKS + COMMAND_CHECKS + MOTION_CHECKS


def assess(
    situation: Situation, limits: RobotLimits, config: GateConfig, checks: tuple[Check, ...] = CHECKS
) -> tuple[Verdict, tuple[Finding, ...]]:
    """The most restrictive verdict and every finding, the gravest first; the order of `checks` does not matter."""
    findings = [f for check in checks if (f := check(situation, limits, config)) is not None]
    findings.sort(key=lambda f: (-f.verdict, f.check, f.reason))
    return max((f.verdict for f in findings), default=Verdict.PASS), tuple(findings)


__all__ = [
    "CHECKS",
    "FORM_CHECKS",
    "MOTION_CHECKS",
    "ROBOT_CHECKS",
    "Check",
    "Finding",
    "GateConfig",
    "Motion",
    "Situation",
    "assess",
    "foresee",
]
