"""Core's table of checks for `skimo doctor`."""

from . import installed, machine, task

CHECKS = (*installed.CHECKS, *machine.CHECKS, *task.CHECKS)
