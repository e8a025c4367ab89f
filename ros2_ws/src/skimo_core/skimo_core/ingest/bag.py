"""Bags of ROS 2: a folder with metadata.yaml, or one file of it; and MCAP files of JSON or of Protocol Buffers.

A bag is one session: nothing in it says whether it is one episode. Messages are decoded by the definition that the bag
carries, else by that of a common message or of the sourced ROS workspace (`message_types`). What becomes a signal, and
when its rows were, say `rows` and `timing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from mcap.records import Channel, Message, Metadata

from ..contract.errors import EpisodeError
from ..episodes.recording import METADATA as OURS
from ..episodes.stream import DamageError, RecordStream
from . import cdr, mcap_json, mcap_protobuf, message_types
from .files import digest_of, kind_of, licence_beside, read_words, within
from .gather import Content, Gather
from .hdf5 import DAMAGED, after
from .source import About, Session
from .storages import LIMITS, Raw, Storage, Topic, messages, unpacked, unpacked_message

BAG = "rosbag2"
FOREIGN = {"json": "mcap_json", "protobuf": "mcap_protobuf"}
"""Formats of MCAP files that are no bags, by how their messages are encoded."""
READ = ("cdr", *FOREIGN)
MAX_FILES = 10_000
MAX_HELD_VALUES = 25_000_000
"""Numbers of a bag that are kept between `about` and `sessions`, so that it needn't be read twice; 200 MB."""
METADATA_FILE = "metadata.yaml"
_ROBOT_KEYS = ("robot_type", "robot", "robot_name")
_PEEKED = 10_000
_HOUSEKEEPING = ("rcl_interfaces/", "lifecycle_msgs/", "diagnostic_msgs/", "rosgraph_msgs/", "service_msgs/")
"""Packages whose messages say how nodes fare, and nothing of the robot or its objects."""
_REMEDIES = {"ros1": "convert the ROS 1 bag that it was made from: rosbags-convert --src OLD.bag --dst NEW"}
Decoder = Callable[[bytes], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What metadata.yaml says of a bag.

    Attributes:
        files: that it is made of, in order.
        count: of messages; None: it doesn't say.
    """

    files: tuple[Path, ...]
    count: int | None = None


def open_bag(path: Path, format: str) -> BagSource:
    """A bag, or an MCAP file of JSON or of Protocol Buffers.

    Raises:
        EpisodeError: what makes it up is missing or of another format, or it is a recording of skimo's.
    """
    listing = _listed(path) if path.is_dir() else Listing(files=(path,))
    kinds = [_look(file) for file in listing.files]
    found = next((kind for kind in kinds if kind), BAG)
    if format not in ("auto", found):
        raise EpisodeError(f"{path.name}: is of format {found}, --format is {format}; leave it out, or name {found}")
    return BagSource(path=path, format=found, listing=listing)


def _listed(folder: Path) -> Listing:
    """A bag's files, by its metadata.yaml."""
    where = f"{folder.name}/{METADATA_FILE}"
    try:
        root = yaml.load(read_words(folder / METADATA_FILE), Loader=_Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise EpisodeError(f"{where}: is not YAML ({' '.join(str(error).split())[:160]}); copy the bag again") from None
    told = root.get("rosbag2_bagfile_information") if isinstance(root, dict) else None
    if not isinstance(told, dict):
        raise EpisodeError(f"{where}: has no rosbag2_bagfile_information; it is no bag's, or is cut short")
    names = told.get("relative_file_paths")
    if not isinstance(names, list) or not names or len(names) > MAX_FILES:
        count = len(names) if isinstance(names, list) else 0
        raise EpisodeError(f"{where}: relative_file_paths names {count} files, must be 1 to {MAX_FILES}")
    mode, form = str(told.get("compression_mode") or ""), str(told.get("compression_format") or "")
    if form not in ("", "zstd") or mode.upper() not in ("", "NONE", "FILE", "MESSAGE"):
        raise EpisodeError(
            f"{where}: is packed as {form[:20]!r} by {mode[:20]!r}; only zstd by file or message is read"
        )
    count = told.get("message_count")
    return Listing(
        files=tuple(_present(folder, name, where) for name in names),
        count=count if type(count) is int and count >= 0 else None,
    )


class _Plain(yaml.SafeLoader):
    """YAML without references: a few lines of those can stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it refers to itself with *, which a bag's metadata has no need of")
        return super().compose_node(parent, index)


def _present(folder: Path, name: object, where: str) -> Path:
    path = within(folder, name, where)
    if path.is_file():
        return path
    beside = folder / path.name  # bags of Dashing and Eloquent name their files from the folder above
    if beside.is_file():
        return beside
    raise EpisodeError(f"{where}: names {str(name)[:80]}, which is not there; copy the whole bag")


def _look(path: Path) -> str:
    """The format that a file's first message tells; empty: it holds none.

    Raises:
        EpisodeError: it is a recording of skimo's, or no storage of bags.
    """
    with unpacked(path) as file:
        kind = kind_of(file)
        if kind == "sqlite3":
            return BAG
        if kind != "mcap":
            raise EpisodeError(f"{path.name}: is neither MCAP nor SQLite3, so no bag's file; copy the bag again")
        encodings: dict[int, str] = {}
        stream = RecordStream(file, salvage=True, limits=LIMITS, counted=False)
        try:
            for record in itertools.islice(stream, _PEEKED):
                if isinstance(record, Metadata) and record.name == OURS:
                    raise EpisodeError("is a recording that skimo made: an episode already, which needs no ingest")
                if isinstance(record, Channel):
                    encodings[record.id] = record.message_encoding
                if isinstance(record, Message):
                    return FOREIGN.get(encodings.get(record.channel_id, ""), BAG)
        except EpisodeError as error:
            raise EpisodeError(after(f"{path.name}: ", error)) from None
    return ""


@dataclass(slots=True, kw_only=True)
class BagSource:
    """A bag; see the module."""

    path: Path
    format: str
    listing: Listing
    _about: About | None = field(default=None, init=False)
    _held: Session | None = field(default=None, init=False)

    def about(self) -> About:
        """What it is, after all of it was read once."""
        if self._about is None:
            session = self._read(salvage=True)
            small = sum(signal.values.size for signal in session.signals.values()) <= MAX_HELD_VALUES
            self._held = session if small and not session.damage else None
        assert self._about is not None
        return self._about

    def forget(self) -> None:
        """Give the memory back that what `about` read takes until `sessions` is called."""
        self._held = None

    def sessions(self, *, skip_damaged: bool = False) -> Iterator[Session]:
        """Its one session.

        Raises:
            EpisodeError: it can't be read, or nothing in it is a number over time.
        """
        held, self._held = self._held, None
        yield held or self._read(salvage=skip_damaged)

    def _read(self, *, salvage: bool) -> Session:
        gather, storage = Gather(), Storage()
        try:
            count = self._gather(gather, storage, salvage)
            wanted = self.listing.count
            if wanted is not None and count != wanted:
                words = f"{METADATA_FILE} counts {wanted} messages, its files hold {count}; copy the bag again"
                if not salvage:
                    raise EpisodeError(words)
                storage.note(words)
            content = gather.finish()
        except EpisodeError as error:
            remedy = f"; {DAMAGED}" if isinstance(error, DamageError) else ""
            remedy += f"; {storage.damage}" if storage.damage else ""
            raise EpisodeError(f"{after(f'{self.path.name}: ', error)}{remedy}") from None
        self._about = self._told(content, storage)
        return Session(
            name="0",
            signals=content.signals,
            timed=True,
            whole=False,
            damage=storage.damage,
        )

    def _gather(self, gather: Gather, storage: Storage, salvage: bool) -> int:
        """Reads all messages; their number."""
        decoders: dict[Topic, Decoder | None] = {}
        count = 0
        for file in self.listing.files:
            for raw in messages(file, storage, salvage=salvage):
                count += 1
                topic = raw[0]
                if topic not in decoders:
                    decoders[topic] = _decoder(topic, gather)
                decoder = decoders[topic]
                if decoder is not None:
                    self._take(raw, decoder, gather, storage, salvage)
        return count

    def _take(self, raw: Raw, decoder: Decoder, gather: Gather, storage: Storage, salvage: bool) -> None:
        topic, log_ns, data = raw
        try:
            gather.add(topic.name, topic.kind, log_ns, decoder(unpacked_message(data)))
        except DamageError as error:
            words = f"{topic.name} ({topic.kind}): the message logged at {log_ns / 1e9:.3f} s {error}"
            if not salvage:
                raise DamageError(words) from None
            storage.note(f"{words}; it is left out")
            gather.damaged(topic.name, topic.kind)

    def _told(self, content: Content, storage: Storage) -> About:
        files = self.listing.files
        metadata = [value for record in storage.metadata.values() for value in record.items()]
        robots = [value for key, value in reversed(metadata) if key in _ROBOT_KEYS and value]
        notes = list(content.notes)
        told = dict.fromkeys(f"{key}: {value}" for key, value in metadata if 0 < len(value) <= 60)
        if told:
            notes.append(f"its metadata says: {'; '.join(list(told)[:16])}")
        root = self.path if self.path.is_dir() else self.path.parent
        named = [root / METADATA_FILE] if self.path.is_dir() else []
        return About(
            format=self.format,
            files=tuple(str(file.relative_to(root)) for file in (*named, *files)),
            digest=digest_of([*named, *files]),
            licence=licence_beside(self.path),
            robot=content.robot or (robots[0][:80] if robots else ""),
            notes=tuple(notes),
        )


def _decoder(topic: Topic, gather: Gather) -> Decoder | None:
    """How a topic's messages are decoded; None: they aren't, and `gather` is told why."""
    if topic.kind.startswith(_HOUSEKEEPING):
        gather.unread(topic.name, topic.kind, "it says how nodes fare")
        return None
    if topic.encoding == "json":
        return mcap_json.decode
    try:
        if topic.encoding == "protobuf":
            return mcap_protobuf.Decoder(topic.kind, topic.definition)
        if topic.encoding != "cdr":
            raise EpisodeError(
                f"its messages are encoded as {topic.encoding!r}, only {', '.join(READ)} are read; "
                f"{_REMEDIES.get(topic.encoding, 'convert them to JSON, or record the topic with ROS 2')}"
            )
        if topic.definition_encoding == "ros2msg" and topic.definition:
            fields = message_types.parse(topic.kind, topic.definition.decode("utf-8", "replace"))
        else:
            fields = message_types.known(topic.kind, topic.definition_encoding if topic.definition else "")
    except EpisodeError as error:
        gather.unread(topic.name, topic.kind, str(error))
        return None
    return cdr.Decoder(fields)
