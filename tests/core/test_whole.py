"""What is written is there whole or not at all, and what a killed writer left goes with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from skimo_core.process.whole import new_folder, remove_folder, replacing, write_whole

KILLED = """
import os, signal, sys
from pathlib import Path
from skimo_core.process import whole
path = Path(sys.argv[1])
with getattr(whole, sys.argv[2])(path, 0o700) as new:
    if sys.argv[2] == "replacing":
        new.write(b"half")
    else:
        (new / "half").write_bytes(b"half")
    if sys.argv[3] == "waits":
        print("in it", flush=True)
        signal.pause()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def begun(path: Path, how: str, then: str) -> subprocess.Popen[str]:
    """A process in the middle of making `path`."""
    return subprocess.Popen([sys.executable, "-c", KILLED, str(path), how, then], stdout=subprocess.PIPE, text=True)


def age(folder: Path) -> None:
    for left in folder.iterdir():
        os.utime(left, (0.0, 0.0))


def test_a_file_is_replaced_with_its_mode_or_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rig.yaml"
    write_whole(path, b"old", 0o600)
    with pytest.raises(ValueError, match="no"), replacing(path, 0o644) as file:
        file.write(b"new")
        raise ValueError("no")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"old", 0o600)
    write_whole(path, b"new", 0o640)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)
    assert [*tmp_path.iterdir()] == [path]


def test_a_folder_comes_and_goes_whole(tmp_path: Path) -> None:
    path = tmp_path / "bundles" / "one"
    with pytest.raises(ValueError, match="no"), new_folder(path) as new:
        (new / "a").write_bytes(b"a")
        raise ValueError("no")
    assert not [*path.parent.iterdir()]
    with new_folder(path) as new:
        (new / "a").write_bytes(b"a")
        assert not path.exists()
    assert [p.name for p in path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="not empty"), new_folder(path):
        pass
    remove_folder(path)
    assert not [*path.parent.iterdir()]


@pytest.mark.parametrize("how", ["replacing", "new_folder"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, how: str) -> None:
    path = tmp_path / "it"
    with begun(path, how, "dies") as maker:
        assert maker.wait() == -signal.SIGKILL
    left = [*tmp_path.iterdir()]
    assert len(left) == 1 and left[0] != path
    write_whole(tmp_path / "other", b"")
    write_whole(path, b"young leftovers stay: their maker may not have its lock yet")
    assert left[0].exists()
    age(tmp_path)
    write_whole(path, b"whole")
    assert {p.name for p in tmp_path.iterdir()} == {"it", "other"}


@pytest.mark.parametrize("how", ["replacing", "new_folder"])
def test_what_is_being_made_is_left_alone_however_old(tmp_path: Path, how: str) -> None:
    path = tmp_path / "it"
    maker = begun(path, how, "waits")
    assert maker.stdout is not None and maker.stdout.readline() == "in it\n"
    try:
        age(tmp_path)
        write_whole(path, b"whole")
        assert len([*tmp_path.iterdir()]) == 2
    finally:
        maker.kill()
        maker.wait()
        maker.stdout.close()


def test_a_file_of_somebody_else_s_making_is_not_swept(tmp_path: Path) -> None:
    names = {".it.new.txt", ".its.1.new", "it.1.new", ".it"}
    for name in names:
        (tmp_path / name).write_bytes(b"")
    age(tmp_path)
    write_whole(tmp_path / "it", b"")
    assert {p.name for p in tmp_path.iterdir()} == names | {"it"}
