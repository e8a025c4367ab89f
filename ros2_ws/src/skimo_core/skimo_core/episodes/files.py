"""The files of a data set: safe names, private modes, folders that can take them, writes that are whole or not there.

Promises
  - An episode's id, whatever it holds, becomes a file name of at most STEM_BYTES bytes of plain ASCII, another one for
    another id; the id itself stands in the file's metadata.
  - What is made here is for its owner alone (files 0600, folders 0700) unless its group is let in (0640, 0750).
  - A file that exists is never overwritten by `create`; `write_atomic` replaces it whole or leaves it as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

from ..contract.errors import EpisodeError, SetupError
from ..process.whole import write_whole

STEM_BYTES = 120
HASH_DIGITS = 12
MAX_SAME_NAME = 10_000
MEBIBYTE = 1 << 20
Stamp = tuple[int, int, int]
"""Of a file: when it last changed (ns, UNIX time), its size and its inode."""
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def file_stem(episode_id: str) -> str:
    """A file name (without ending) for an episode: the id itself where that is safe, else made safe and told apart."""
    safe = _UNSAFE.sub("_", episode_id)
    if not safe or safe[0] in ".-" or safe[-1] == "." or _RESERVED.match(safe):
        safe = f"episode_{safe}".rstrip(".")
    if safe == episode_id and len(safe) <= STEM_BYTES:
        return safe
    digits = hashlib.sha256(episode_id.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]
    return f"{safe[: STEM_BYTES - HASH_DIGITS - 1]}-{digits}"


def file_mode(*, group: bool) -> int:
    return 0o640 if group else 0o600


def make_folder(folder: Path, *, group: bool = False) -> None:
    """Make the folder if it is not there; the modes of one that is there are its owner's business."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            os.chmod(folder, 0o750 if group else 0o700)
        if not folder.is_dir():
            raise NotADirectoryError(20, "is a file, not a folder", str(folder))


def create(path: Path, *, group: bool = False) -> int:
    """A new file's descriptor for writing; raises FileExistsError where something of this name is there."""
    mode = file_mode(group=group)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    os.fchmod(descriptor, mode)  # whatever the umask says
    return descriptor


def create_free(folder: Path, stem: str, *, group: bool = False) -> tuple[Path, int]:
    """A new file `stem.mcap`, or `stem-2.mcap` and so on where names are taken; its path and descriptor."""
    for count in range(1, MAX_SAME_NAME):
        path = folder / (f"{stem}.mcap" if count == 1 else f"{stem}-{count}.mcap")
        with contextlib.suppress(FileExistsError):
            return path, create(path, group=group)
    raise EpisodeError(f"{folder} holds {MAX_SAME_NAME} recordings named {stem}; give episodes other ids, or move some")


def write_atomic(path: Path, data: bytes, *, group: bool = False) -> None:
    """Replace the file's content; at every moment it is either what it was or what it will be."""
    write_whole(path, data, file_mode(group=group))


def stamp_of(path: Path) -> Stamp | None:
    """Another one whenever the file was written anew, even where its time was kept, as by a label; None: it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def free_mib(folder: Path) -> float:
    """Space that is left for us on the folder's file system, MiB."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize / MEBIBYTE


def why_unusable(folder: Path, *, min_free_mib: float = 0.0, group: bool = False) -> str:
    """Why recordings can't go to the folder (which is made if it is not there), with the remedy; empty if they can."""
    try:
        make_folder(folder, group=group)
        left_mib = free_mib(folder)
        if left_mib < min_free_mib:
            return (
                f"{left_mib:.0f} MiB are free there, at least {min_free_mib:.0f} MiB are needed; "
                "make room, give another directory, or lower min_free_mib"
            )
        with tempfile.NamedTemporaryFile(prefix=".writable-", dir=folder) as probe:
            probe.write(bytes(4096))
            probe.flush()
    except OSError as error:
        return f"{error.strerror or error}; {_remedy(error)}"
    return ""


def check_folder(folder: Path, *, min_free_mib: float = 0.0, group: bool = False) -> None:
    """Raises SetupError if recordings can't go to the folder; says why and what to do."""
    if why := why_unusable(folder, min_free_mib=min_free_mib, group=group):
        raise SetupError(f"recordings can't go to {folder}: {why}")


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "give its user the right to write there, or give another directory"
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return "move the file of that name away, or give another directory"
    return {
        28: "make room, or give another directory",  # ENOSPC
        30: "mount it for writing, or give another directory",  # EROFS
        122: "raise the quota, or give another directory",  # EDQUOT
    }.get(error.errno or 0, "give another directory")
