"""Mutated messages against the wire: `decode` and the readers of `protocol` give a message, SpecError or WireError.

    python benchmarks/fuzz_wire.py                     # 1,000,000 inputs, benchmarks/results/fuzz_wire.json

An input is a good message of either side whose header, arrays or bytes were changed: values of every msgpack type put
where others belong (nested hundreds deep, numbers at the edges of their types, shapes whose product overflows), keys
removed, added and renamed, frames dropped, doubled and swapped, bits flipped, bytes cut and inserted. What decodes is
given to every reader, under a spec that fits it. Whatever else is raised is a finding, and its input is printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from skimo_core.contract.errors import SpecError, WireError
from skimo_core.contract.policy import Goals, Plan, PolicySpec
from skimo_core.contract.specs import SkillSpec
from skimo_core.domain.domain import load_domain
from skimo_core.link import protocol, wire
from skimo_core.link.wire import Message
from skimo_core.process.provenance import provenance

RESULT = Path(__file__).parent / "results" / "fuzz_wire.json"
DOMAIN = load_domain()
SPEC = PolicySpec(
    observation=DOMAIN.observation,
    action=DOMAIN.action,
    skill=SkillSpec(horizon=10, dim=10, plan_length=3),
    bundle_id="a" * 64,
)
READERS: tuple[Callable[[Message], object], ...] = (
    lambda message: protocol.read_plan_request(message, SPEC),
    lambda message: protocol.read_act_request(message, SPEC),
    protocol.bundle_of,
    lambda message: protocol.read_plan_reply(message, SPEC),
    lambda message: protocol.read_act_reply(message, SPEC),
    protocol.read_hello_reply,
)
EDGES = (
    0,
    1,
    -1,
    2**16,
    2**20,
    2**31,
    2**53,
    2**63 - 1,
    -(2**63),
    2**64 - 1,
    1e308,
    -1e-320,
    float("inf"),
    float("nan"),
)


def good_messages() -> list[list[bytes]]:
    """Frames of what both sides say, one of each kind."""
    observation_O, skill_PZ = np.zeros(30, np.float32), np.zeros((3, 10), np.float32)
    goals = Goals(
        values_KO=np.zeros((2, 30), np.float32),
        weights_KO=np.ones((2, 30), np.float32),
        thresholds_K=np.ones(2, np.float32),
    )
    query = protocol.PlanQuery(
        observation_O=observation_O, goals=goals, seed=1, warm_start_PZ=skill_PZ, warm_start_of="a" * 64
    )
    plan = Plan(
        skills_PZ=skill_PZ,
        warm_start_PZ=skill_PZ,
        value=1.0,
        predicted_PO=np.zeros((3, 30), np.float32),
        success_probability=0.5,
        bundle_id="a" * 64,
        timings_ms={"total": 1.0},
    )
    messages = (
        Message(op="hello", request_id=1, deadline_s=1.0),
        protocol.hello_reply(SPEC, 1),
        protocol.plan_request(query, 2, 1.0),
        protocol.plan_reply(plan, 2),
        protocol.act_request(observation_O, skill_PZ[0], 3, 0.04, "a" * 64),
        protocol.act_reply(np.zeros(9, np.float32), "a" * 64, {"total": 0.1}, 3),
        Message(op="health", request_id=4, fields={"bundle": "a" * 64, "uptime_s": 1.0}),
        Message(op="plan", request_id=5, code="busy", text="try later"),
    )
    return [wire.encode(message) for message in messages]


class Mutator:
    """Changes good messages; the same generator gives the same inputs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._good = good_messages()

    def next(self) -> list[bytes]:
        frames = list(self._pick(self._good))
        for _ in range(1 + self._below(3)):
            frames = self._pick((self._header, self._header, self._bytes, self._frames))(frames)
        return frames

    def _below(self, most: int) -> int:
        return int(self._rng.integers(max(1, most)))

    def _pick(self, options: Any) -> Any:
        return options[self._below(len(options))]

    def _header(self, frames: list[bytes]) -> list[bytes]:
        """Puts something elsewhere into the header, which stays msgpack."""
        try:
            header = msgpack.unpackb(frames[0], strict_map_key=False)
        except Exception:  # an earlier change made it none
            return frames
        if not isinstance(header, (dict, list)):
            return frames
        place = header
        for _ in range(self._below(5)):
            inner = [
                v for v in (place.values() if isinstance(place, dict) else place) if isinstance(v, (dict, list)) and v
            ]
            if not inner:
                break
            place = self._pick(inner)
        if isinstance(place, dict):
            key = self._pick([*place, "extra", "", 7]) if place else "extra"
            if self._below(5) == 0:
                place.pop(key, None)
            else:
                place[key] = self._value()
            if key == "spec" or self._below(8) == 0:
                self._spec(header)
        elif isinstance(place, list) and place:
            place[self._below(len(place))] = self._value()
        try:
            return [msgpack.packb(header), *frames[1:]]
        except (ValueError, OverflowError, TypeError):
            return frames

    def _spec(self, header: Any) -> None:
        """Changes the JSON inside a hello."""
        if not (isinstance(header, dict) and isinstance(header.get("fields"), dict)):
            return
        words = json.loads(protocol.hello_reply(SPEC, 1).fields["spec"])  # type: ignore[arg-type]
        place = self._pick((words, words["observation"], words["action"], words["skill"]))
        place[self._pick(list(place))] = self._pick(("x", [], {}, None, True, 3.5, [1], [["a"]], *EDGES))
        header["fields"]["spec"] = self._pick((json.dumps(words), "[" * 20_000, "9" * 5_000, json.dumps(words)[:-5]))

    def _value(self) -> Any:
        kind = self._below(9)
        if kind == 0:
            return self._pick(EDGES)
        if kind == 1:
            return [self._pick(EDGES) for _ in range(self._below(6))]
        if kind == 2:
            return [self._pick((0, 1, 2**20, 2**19, 30)) for _ in range(self._below(6))]
        if kind == 3:
            nested: Any = 1
            for _ in range(self._pick((3, 100, 400))):
                nested = {"a": nested} if self._below(2) else [nested]
            return nested
        if kind == 4:
            return self._rng.bytes(self._below(40))
        if kind == 5:
            return msgpack.ExtType(self._below(127), self._rng.bytes(self._below(9)))
        if kind == 6:
            return self._pick(("", "f4", "f8", "i8", "u1", "plan", "act", "ok", "observation", "x" * 40_000))
        return self._pick((None, True, False, {}, [], {"name": "a", "dtype": "f4", "shape": [0]}, -0.0))

    def _bytes(self, frames: list[bytes]) -> list[bytes]:
        """Flips, cuts, inserts or repeats bytes of one frame."""
        if not frames:
            return frames
        at = self._below(len(frames))
        data, place = bytearray(frames[at]), self._below(len(frames[at]))
        change = self._below(4)
        if change == 0 and data:
            data[place] ^= 1 << self._below(8)
        elif change == 1:
            del data[place:]
        elif change == 2:
            data[place:place] = self._rng.bytes(1 + self._below(9))
        else:
            data[place:place] = (
                self._pick((b"\xdc\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\x91")) * 200
            )
        return [*frames[:at], bytes(data), *frames[at + 1 :]]

    def _frames(self, frames: list[bytes]) -> list[bytes]:
        """Drops, doubles or swaps frames, or puts another message's there."""
        if not frames:
            return frames
        a, b = self._below(len(frames)), self._below(len(frames))
        change = self._below(4)
        if change == 0:
            return [*frames[:a], *frames[a + 1 :]]
        if change == 1:
            return [*frames[:a], frames[a], *frames[a:]]
        swapped = list(frames)
        swapped[a] = frames[b] if change == 2 else self._pick(self._pick(self._good))
        return swapped


def outcome(frames: list[bytes]) -> str:
    """What came of an input: a code, or how it was read; anything but SpecError and WireError goes through."""
    try:
        message = wire.decode(frames)
    except WireError as error:
        assert error.code in wire.CODES and str(error)
        return f"refused: {error.code}"
    finally:
        assert 0 <= wire.request_id_of(frames) <= wire.MAX_ID
    read = 0
    for reader in READERS:
        try:
            reader(message)
            read += 1
        except (SpecError, WireError) as error:
            assert str(error)
    return "a message that fits its operation" if read else "a message that fits none"


def fuzz(count: int, seed: int) -> Counter[str]:
    """Outcomes of `count` inputs; raises what no input may raise."""
    mutator, found = Mutator(np.random.default_rng(seed)), Counter[str]()
    for at in range(count):
        frames = mutator.next()
        try:
            found[outcome(frames)] += 1
        except Exception:
            print(f"finding at input {at} of seed {seed}: {frames!r}"[:2000])
            raise
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    began_s = time.monotonic()
    found = fuzz(options.count, options.seed)
    command = f"python benchmarks/fuzz_wire.py --count {options.count} --seed {options.seed}"
    result = {
        **provenance(command, options.seed, ("numpy", "msgpack")),
        "inputs": options.count,
        "other_errors": 0,
        "outcomes": dict(sorted(found.items())),
        "seconds": round(time.monotonic() - began_s, 1),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["outcomes"], indent=2))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
