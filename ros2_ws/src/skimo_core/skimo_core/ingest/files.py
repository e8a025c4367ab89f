"""The files of a foreign recording: what they are by their first bytes, and bounds on what is read of them.

Promises
  - A file is known by its content, never by its name; a pointer that stands for a file that was not fetched, an empty
    file and a missing one are refused in words that say so.
  - A path that a recording names stays within the recording's own folder.
  - Nothing is held beyond the bounds below, whatever a file declares.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..contract.errors import EpisodeError
from ..episodes.stream import HDF5_MAGIC, MAGIC

MAX_VALUES = 100_000_000
"""Numbers in a session: an hour of 27 columns at 1 kHz, 0.8 GB."""
MAX_COLUMNS = 1024
"""Of one field; what has more is a picture or a cloud of points."""
MAX_SIGNALS = 2048
MAX_TEXT_BYTES = 64 << 20
"""Of a table of words (JSON, YAML) that describes a recording."""
HEAD_BYTES = 64
_POINTER = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
_BLOCK = 1 << 20
_USER_BLOCKS = tuple(512 << k for k in range(12))
_KINDS = (
    (HDF5_MAGIC, "hdf5"),
    (MAGIC, "mcap"),
    (b"SQLite format 3\0", "sqlite3"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PAR1", "parquet"),
    (b"#ROSBAG V", "rosbag1"),
    (b"PK\x03\x04", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\x93NUMPY", "npy"),
)


def kind_of(path: Path) -> str:
    """What a file holds: hdf5, mcap, sqlite3, zstd, parquet, rosbag1, zip, gzip, npy, or "" for none of these.

    Raises:
        EpisodeError: it isn't there, can't be read, is empty, or is a pointer to a file that was not fetched.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if not head:
                raise EpisodeError(f"{path.name}: is empty (0 bytes); fetch or copy it again")
            check_fetched(path, head)
            for magic, kind in _KINDS:
                if head.startswith(magic):
                    return kind
            for start in _USER_BLOCKS:  # HDF5 lets words of others stand before it
                file.seek(start)
                if file.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
                    return "hdf5"
    except FileNotFoundError:
        raise EpisodeError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise EpisodeError(f"{path}: can't be read: {error.strerror or error}") from None
    return ""


def check_fetched(path: Path, head: bytes) -> None:
    """Raises EpisodeError if the file's first bytes are those of a pointer in its place."""
    if head.startswith(_POINTER):
        raise EpisodeError(
            f"{path.name}: is a Git LFS pointer of {path.stat().st_size} bytes, not the file; fetch it: git lfs pull"
        )
    if head.startswith(_ANNEX):
        raise EpisodeError(f"{path.name}: is a git-annex pointer, not the file itself; fetch it: git annex get")


def within(folder: Path, name: object, where: str) -> Path:
    """The path of a file that a recording in `folder` names, relative to it.

    Raises:
        EpisodeError: it isn't a path, or leads out of the folder.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) and name and "\0" not in name else ()
    if not parts or PurePosixPath(*parts).is_absolute() or ".." in parts or "\\" in str(name):
        raise EpisodeError(
            f"{where} names the file {str(name)[:80]!r}, which must lie within the recording's own folder; put it "
            "there and name it relative to the folder"
        )
    return folder.joinpath(*parts)


def read_words(path: Path) -> str:
    """The text of a file that describes a recording.

    Raises:
        EpisodeError: it can't be read, is a pointer or empty, too big, or no UTF-8.
    """
    kind_of(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise EpisodeError(f"{path}: can't be read: {error.strerror or error}") from None
    if len(data) > MAX_TEXT_BYTES:
        raise EpisodeError(f"{path.name}: is larger than {MAX_TEXT_BYTES:,} bytes, too large for a description")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise EpisodeError(f"{path.name}: is no UTF-8 text (byte {error.start}); fetch or copy it again") from None


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise EpisodeError(f"{path}: can't be read: {error.strerror or error}") from None
    return digest.hexdigest()


def check_size(values: int, what: str) -> None:
    """Raises EpisodeError if a session has more numbers than are ever held."""
    if values > MAX_VALUES:
        raise EpisodeError(
            f"{what} declares {values:,} numbers, bound {MAX_VALUES:,}; cut the recording into shorter ones, or leave "
            "fields out that nobody needs"
        )


def columns_of(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the columns that a row of this shape becomes: "0", "1", ..., or "0.0", "0.1", ... of a matrix."""
    if not shape:
        return ("0",)
    names = [""]
    for size in shape:
        names = [f"{name}.{k}" if name else str(k) for name in names for k in range(size)]
    assert len(names) == math.prod(shape)
    return tuple(names)


_LICENCES = (
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("MIT", ("permission is hereby granted, free of charge", "the above copyright notice and this permission")),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("CC-BY-4.0", ("creative commons attribution 4.0",)),
    ("CC0-1.0", ("cc0 1.0",)),
)
"""By SPDX's names, and words of each in lower case."""


def licence_beside(path: Path) -> str:
    """The licence that a LICENSE or LICENCE file beside the recording holds: its SPDX name, or else its first words.

    Empty if there is no such file.
    """
    folder = path if path.is_dir() else path.parent
    for name in ("LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md"):
        file = folder / name
        if file.is_file():
            with file.open("rb") as opened:
                lines = opened.read(8192).decode("utf-8", "replace").splitlines()
            words = [line.strip() for line in lines if line.strip()]
            text = " ".join(words).lower()
            known = next((spdx for spdx, parts in _LICENCES if all(part in text for part in parts)), "")
            return known or (words[0][:80] if words else "")
    return ""
