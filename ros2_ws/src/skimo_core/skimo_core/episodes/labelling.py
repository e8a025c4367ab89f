"""Writes an operator's label into a finished recording, and reads what labels there are.

Promises
  - The recording is written anew beside the old one, which it then replaces in one step; what it held stays, the
    goal's outcome and earlier labels with it, and so does its time of change, by which some take it for new.
  - One that is being written, is damaged, or that the label does not fit, is left as it was.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..contract.errors import EpisodeError
from ..process.whole import replacing
from .labels import LABEL, Label, done_by
from .locks import lock
from .recording import read_judgements
from .rewrite import copy
from .seal import sealed
from .stream import RecordStream


def add_label(path: Path, label: Label) -> None:
    """Label a recording.

    Raises:
        EpisodeError: nobody may label it (see the module); names the file, what is wrong, and what to do.
    """
    try:
        with path.open("rb") as old:
            if not lock(old.fileno()) or not os.path.samestat(os.fstat(old.fileno()), os.stat(path)):
                raise EpisodeError(f"{path.name}: is being written; label it when its episode is over")
            episode, _ = read_judgements(path)
            if episode.meta.part > 1:
                raise EpisodeError(
                    f"{path.name}: is part {episode.meta.part} of its episode, and what was done before it stands in "
                    "another file; label part 1, or leave it out"
                )
            try:
                done_by(episode, label)
            except EpisodeError as error:
                raise EpisodeError(f"{path.name}: {error}") from None
            _rewrite(path, label, os.fstat(old.fileno()))
    except OSError as error:
        raise EpisodeError(f"{path}: can't be labelled: {error.strerror or error}; the file is as it was") from None


def _rewrite(path: Path, label: Label, state: os.stat_result) -> None:
    with replacing(path, state.st_mode & 0o777) as file:
        writer, _ = copy(RecordStream(path), file, lambda record: record.metadata)
        writer.add_metadata(LABEL, sealed(label.entries()))
        writer.finish()
        file.flush()
        os.utime(file.fileno(), ns=(state.st_atime_ns, state.st_mtime_ns))
