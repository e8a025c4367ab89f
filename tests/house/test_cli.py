"""The dispatcher of the skimo command."""

from __future__ import annotations

import io
from importlib.metadata import EntryPoint

import pytest

from skimo_core import cli


def entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group=cli.GROUP)


COMMANDS = {
    "up": entry("up", "skimo_bringup.up:up"),
    "gone": entry("gone", "no_such_package.cli:main"),
    "nameless": entry("nameless", "skimo_bringup.up:nothing"),
}


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return cli.run(list(argv), COMMANDS, out, err), out.getvalue(), err.getvalue()


@pytest.mark.parametrize("argv", [("--help",), ("-h",), ("help",)])
def test_help_lists_commands_with_their_first_docstring_line(argv: tuple[str, ...]) -> None:
    code, out, _ = run(*argv)
    assert code == 0
    assert "up        Start the stack" in out


def test_help_says_which_command_is_broken_and_lists_the_others() -> None:
    out = run("--help")[1]
    assert "gone      (not usable here: No module named 'no_such_package')" in out
    assert "nameless  (not usable here: skimo_bringup.up has no nothing)" in out


def test_no_command_is_a_usage_error() -> None:
    assert run()[0] == cli.USAGE_ERROR


def test_an_unknown_command_names_close_ones() -> None:
    code, _, err = run("upp")
    assert (code, err) == (2, "skimo: no command 'upp'; did you mean up?\n")


def test_a_command_gets_the_rest_and_gives_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("up", "--show-args")[0] == 0
    assert "use_twin:=true" in capsys.readouterr().out


@pytest.mark.parametrize("twice", [("--a", "1", "--a", "2"), ("--x_y=1", "--b", "--x-y", "2")])
def test_an_option_given_twice_is_refused_for_neither_is_dropped(twice: tuple[str, ...]) -> None:
    code, out, err = run("up", *twice)
    assert code == cli.USAGE_ERROR and not out
    assert "is given twice; give it once, with all its values after it" in err
