"""Recordings altered in every way that a disk, a network or a stranger may alter them, drawn from a seed."""

from __future__ import annotations

import struct
import zlib

import lz4.frame
import numpy as np

FRAME = struct.Struct("<BQ")
CHUNK = struct.Struct("<QQQII")
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def mutate(whole: bytes, rng: np.random.Generator) -> bytes:
    """One mutation of a file, or a few of them one after the other."""
    data = whole
    for _ in range(int(rng.integers(1, 4))):
        data = _KINDS[int(rng.integers(len(_KINDS)))](data, rng)
    return data


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit."""
    if not data:
        return data
    at = _at(data, rng)
    return _put(data, bytes([data[at] ^ 1 << int(rng.integers(8))]), at)


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: _at(data, rng)]


def splice(data: bytes, rng: np.random.Generator) -> bytes:
    """A stretch taken out, doubled, or moved elsewhere."""
    a, b, c = sorted(_at(data, rng) for _ in range(3))
    return (data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:])[int(rng.integers(3))]


def edge(data: bytes, rng: np.random.Generator) -> bytes:
    """A number that lies on an edge, in place of 1, 2, 4 or 8 bytes."""
    width = int(rng.choice([1, 2, 4, 8]))
    value = EDGES[int(rng.integers(len(EDGES)))] % 2 ** (8 * width)
    return _put(data, value.to_bytes(width, "little"), _at(data, rng))


def record(data: bytes, rng: np.random.Generator) -> bytes:
    """A whole record taken out, doubled or given another opcode."""
    spans = _records(data)
    if not spans:
        return data
    first, last = spans[int(rng.integers(len(spans)))]
    kind = int(rng.integers(3))
    if kind == 2:
        return _put(data, bytes([int(rng.integers(1, 17))]), first)
    return data[:first] + data[last:] if kind == 0 else data[:last] + data[first:]


def within_chunk(data: bytes, rng: np.random.Generator) -> bytes:
    """A chunk's content altered, and its checksum and sizes made to fit again."""
    spans = [(a, b) for a, b in _records(data) if data[a] == 6]
    if not spans:
        return data
    first, last = spans[int(rng.integers(len(spans)))]
    body = data[first + FRAME.size : last]
    try:
        start_ns, end_ns, _, _, name_bytes = CHUNK.unpack_from(body)
        content = lz4.frame.decompress(body[CHUNK.size + name_bytes + 8 :])
    except (RuntimeError, struct.error):
        return data
    content = (flip, edge, splice)[int(rng.integers(3))](content, rng)
    packed = lz4.frame.compress(content)
    new = CHUNK.pack(start_ns, end_ns, len(content), zlib.crc32(content), 3) + b"lz4" + struct.pack("<Q", len(packed))
    return data[:first] + FRAME.pack(6, len(new) + len(packed)) + new + packed + data[last:]


_KINDS = (flip, flip, cut, splice, edge, edge, record, within_chunk, within_chunk, within_chunk)


def _records(data: bytes) -> list[tuple[int, int]]:
    """First and last byte of every record, as far as the framing goes."""
    spans, at = [], 8
    while at + FRAME.size <= len(data) - 8:
        length = FRAME.unpack_from(data, at)[1]
        if length > len(data) - at - FRAME.size:
            break
        spans.append((at, at + FRAME.size + length))
        at = spans[-1][1]
    return spans


def _at(data: bytes, rng: np.random.Generator) -> int:
    return int(rng.integers(max(1, len(data))))


def _put(data: bytes, piece: bytes, at: int) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]
