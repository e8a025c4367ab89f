"""Keys and the list of clients: files that only their owner reads, refused with the remedy where something is wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from skimo_core.contract.errors import SetupError
from skimo_core.link.keys import CLIENT_SECRET, SERVER_SECRET, AllowList, load_client_keys, load_pair, make_pair, trust
from skimo_core.link.keys_cli import keys

KEY, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_a_secret_is_made_once_and_only_for_its_owner(folder: Path) -> None:
    pair = make_pair(folder, SERVER_SECRET)
    assert make_pair(folder, SERVER_SECRET) == pair == load_pair(folder, SERVER_SECRET)
    assert pair.secret not in repr(pair)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / SERVER_SECRET)] == [0o700, 0o600]


def test_a_secret_that_others_may_read_is_refused(folder: Path) -> None:
    make_pair(folder, CLIENT_SECRET)
    (folder / CLIENT_SECRET).chmod(0o644)
    with pytest.raises(SetupError, match=r"mode 0644.*chmod 600"):
        load_pair(folder, CLIENT_SECRET)


def test_a_client_without_keys_has_none_and_one_with_half_of_them_is_told(folder: Path) -> None:
    assert load_client_keys(folder) is None
    trust(folder, KEY)
    with pytest.raises(SetupError, match="skimo keys client"):
        load_client_keys(folder)
    own = make_pair(folder, CLIENT_SECRET)
    found = load_client_keys(folder)
    assert found is not None and (found.own, found.server) == (own, KEY)
    with pytest.raises(SetupError, match="64 hexadecimal digits"):
        trust(folder, "short")


def test_the_list_follows_its_file(folder: Path) -> None:
    allowed, other = AllowList(folder), AllowList(folder)
    assert allowed.names() == {}
    other.add("lab-pc", KEY)
    assert allowed.names() == {KEY: "lab-pc"}
    other.add("lab-pc", OTHER)
    assert allowed.names() == {OTHER: "lab-pc"}
    with pytest.raises(SetupError, match="already that of lab-pc"):
        other.add("another", OTHER)
    other.remove("lab-pc")
    assert allowed.names() == {}


@pytest.mark.parametrize("line", ["x", "a b c", f"a {KEY} c", "a notakey", f"a {KEY}\nb {KEY}", f"a {KEY}\na {OTHER}"])
def test_a_list_that_makes_no_sense_is_refused_with_its_line(folder: Path, line: str) -> None:
    folder.mkdir()
    (folder / "allowed_clients").write_text(line)
    with pytest.raises(SetupError, match=r"allowed_clients, line \d"):
        AllowList(folder).names()


def test_the_command_makes_adds_lists_and_removes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--folder", str(folder)]
    assert keys(["server", *where]) == keys(["client", *where]) == 0
    server, client = capsys.readouterr().out.split()
    assert keys(["add", "lab-pc", client, *where]) == 0 and f"{client}\n" in capsys.readouterr().out
    assert keys(["trust", server, *where]) == 0 and load_client_keys(folder) is not None
    assert keys(["list", *where]) == 0 and "lab-pc" in capsys.readouterr().out
    assert keys(["remove", "lab-pc", *where]) == 0 and keys(["list", *where]) == 0
    assert "lab-pc" not in capsys.readouterr().out
    assert keys(["remove", "lab-pc", *where]) == 1 and "no client 'lab-pc'" in capsys.readouterr().err
