"""A bundle: an immutable, content-addressed folder with everything that is served.

    manifest.json        what it is, how it was made, the SHA-256 of every file
    encode.onnx ...      its networks, those of its kind (`kinds.py`)
    parity.npz           recorded inputs and what the networks answered to them at the export (`parity.py`)
    domain.yaml ...      of a domain that doesn't ship, with its own robot and cell (`skimo_core.domain.packed`)

Promises
  - Its id is a SHA-256 over the manifest's body, which holds the hash of every file: one changed byte is another id.
  - `load_bundle` reads every file once, checks hashes and manifest, lets a process of its own vet the graphs within
    bounds of time and memory (`vetting.py`), and returns the bytes that were vetted; nothing on disk is used
    afterwards. Whatever does not fit is refused with its own message; nothing is repaired.
  - The same content written anywhere is the same bytes: sorted keys, no paths, no times, no machine names.
It never holds pickles or torch files, and never runs a network in the process that asks.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from skimo_core.contract.errors import BundleError, SpecError
from skimo_core.contract.policy import Calibration, PolicySpec
from skimo_core.contract.specs import UNKNOWN, ActionSpec, Named, ObservationSpec, SkillSpec
from skimo_core.domain.domain import DEFAULT
from skimo_core.domain.packed import DOMAIN_FILE, MAX_FILE_BYTES, check_packed
from skimo_core.domain.packed import FILES as DOMAIN_FILES
from skimo_core.process.whole import new_folder

from .graphs import MAX_GRAPH_BYTES, canonical_graph
from .kinds import SKIMO, check_agent
from .parity import MAX_PARITY_BYTES, PARITY_FILE, pack, unpack
from .planner_config import PlannerConfig, check_graphs
from .vetting import vet

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
FORMAT_2_GRAPHS = ("decode", "dynamics", "encode", "goal_value", "prior", "skill_encoder", "skill_policy")
MAX_MANIFEST_BYTES = 1024 * 1024
MAX_BUNDLE_BYTES = 64 * 1024 * 1024
BOUNDS = {PARITY_FILE: MAX_PARITY_BYTES, **dict.fromkeys(DOMAIN_FILES, MAX_FILE_BYTES)}
MAX_SIZE = 4096  # of O, A, H, Z and D
MAX_RANGE = 1e6  # of a channel's values, in its unit
SHIPPED = Path(__file__).resolve().parent / "bundles"

JsonObject = Mapping[str, Any]
_GIVEN = ("bundle_id", "graphs", "files", "state", "format_version")
"""Entries of a manifest that follow from what is written."""
_HEX64 = re.compile(r"[0-9a-f]{64}")
_MACHINE_PATH = re.compile(r"(?:^|[\s\"'=:(])(?:/(?:home|root|tmp|work|usr|opt|var|mnt|Users|builds)/|[A-Za-z]:\\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a bundle is and how it was made.

    Attributes:
        bundle_id: content address, 64 hexadecimal digits.
        kind: a key of `kinds.KINDS`.
        graphs: names of the networks that it has, sorted.
        files: SHA-256 by file name.
        observation, action: what the networks read and give, with names and units.
        skill_horizon: H, control steps that a skill lasts.
        skill_dim: Z.
        latent_dim: D.
        state: shapes by name of what the agent remembers from one control step to the next; no such kind is served yet.
        planner: how plans are made with it unless a server is told otherwise.
        recipe: name and full configuration of its making.
        parity: per graph, the largest error of ONNX against torch (absolute plus relative); whose answers are the
            reference of parity.npz, and of which data its inputs are.
        dataset_digests: by data set.
        domain: whose channels, actions, rate and horizon these are.
        robot: whose limits its data obeyed.
        ranges: "low" and "high", the lowest and highest value of each channel in the training data, in its unit; empty
            where that isn't known.
        commit: of the source that made it.
        parent_id: the bundle that it was fine-tuned from, or None.
    """

    bundle_id: str
    kind: str
    graphs: tuple[str, ...]
    files: Mapping[str, str]
    observation: ObservationSpec
    action: ActionSpec
    skill_horizon: int
    skill_dim: int
    latent_dim: int
    state: Mapping[str, Any] = field(default_factory=dict)
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    recipe: JsonObject = field(default_factory=dict)
    parity: JsonObject = field(default_factory=dict)
    dataset_digests: Mapping[str, str] = field(default_factory=dict)
    domain: Named = UNKNOWN
    robot: Named = UNKNOWN
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    commit: str = ""
    parent_id: str | None = None
    format_version: int = FORMAT_VERSION

    @property
    def policy_spec(self) -> PolicySpec:
        """What clients must agree on, with the bundle's own planner."""
        return self.policy_spec_with(self.planner)

    def policy_spec_with(self, planner: PlannerConfig) -> PolicySpec:
        """The same with another planner: its plans may have another length."""
        skill = SkillSpec(horizon=self.skill_horizon, dim=self.skill_dim, plan_length=planner.horizon)
        return PolicySpec(
            observation=self.observation,
            action=self.action,
            skill=skill,
            bundle_id=self.bundle_id,
            domain=self.domain,
            robot=self.robot,
            calibration=Calibration.of(planner.calibration) if planner.calibration else None,
            low_O=tuple(self.ranges.get("low", ())),
            high_O=tuple(self.ranges.get("high", ())),
            task=self.task_of(planner),
            explore=planner.explore,
        )

    def task_of(self, planner: PlannerConfig) -> str:
        """Sub-tasks, joined by commas, for which alone such a planner's plans are; empty: for any."""
        trained = self.recipe.get("returns")
        learned = planner.proposer == "task_policy" or planner.score_terms & {"learned_reward", "learned_value"}
        return str(trained.get("task", "")) if learned and isinstance(trained, Mapping) else ""

    @property
    def sizes(self) -> dict[str, int]:
        """What the dimension letters stand for."""
        return {
            "H": self.skill_horizon,
            "O": self.observation.size,
            "A": self.action.size,
            "Z": self.skill_dim,
            "D": self.latent_dim,
        }

    def body(self) -> dict[str, Any]:
        """Everything but the id, as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "bundle_id"}
        values |= {"observation": self.observation.to_dict(), "action": self.action.to_dict()}
        values |= {name: asdict(getattr(self, name)) for name in ("planner", "domain", "robot")}
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle in memory: its manifest, the bytes of its graphs by name (without ".onnx"), of parity.npz, and of its
    domain's files by name."""

    manifest: Manifest
    graphs: Mapping[str, bytes]
    parity: bytes = b""
    domain_files: Mapping[str, bytes] = field(default_factory=dict)


def write_bundle(
    folder: Path | str,
    *,
    graphs: Mapping[str, bytes],
    recorded: Mapping[str, npt.NDArray[np.generic]],
    observation: ObservationSpec,
    action: ActionSpec,
    skill_horizon: int,
    skill_dim: int,
    latent_dim: int,
    kind: str = SKIMO,
    planner: PlannerConfig | None = None,
    recipe: JsonObject | None = None,
    parity: JsonObject | None = None,
    dataset_digests: Mapping[str, str] | None = None,
    domain: Named | None = None,
    robot: Named | None = None,
    ranges: Mapping[str, Sequence[float]] | None = None,
    commit: str = "",
    parent_id: str | None = None,
    domain_files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Writes a bundle and verifies it; the folder appears complete or not at all.

    Args:
        folder: must not exist, or hold the same bundle already.
        graphs: ONNX bytes by name, those of its kind; stored in canonical form.
        recorded: inputs and reference outputs by name, as in `parity.py`.
        recipe, parity: plain JSON values.
        domain_files: `skimo_core.domain.packed.pack` of its domain.

    Raises:
        BundleError: a graph or the manifest would be refused on loading, or the folder holds something else.
    """
    check_agent(kind, sorted(graphs), {})
    blobs = {f"{name}.onnx": canonical_graph(data) for name, data in graphs.items()}
    blobs[PARITY_FILE] = pack(recorded)
    blobs |= domain_files or {}
    manifest = Manifest(
        bundle_id="",
        kind=kind,
        graphs=tuple(sorted(graphs)),
        files={name: _sha256(blob) for name, blob in sorted(blobs.items())},
        observation=ObservationSpec.from_dict(observation.to_dict()),
        action=ActionSpec.from_dict(action.to_dict()),
        skill_horizon=skill_horizon,
        skill_dim=skill_dim,
        latent_dim=latent_dim,
        planner=planner or PlannerConfig(),
        recipe=recipe or {},
        parity=parity or {},
        dataset_digests=dataset_digests or {},
        domain=domain or UNKNOWN,
        robot=robot or UNKNOWN,
        ranges=ranges or {},
        commit=commit,
        parent_id=parent_id,
    )
    body = manifest.body()
    bundle_id = _sha256(_json_bytes(body))
    blobs[MANIFEST] = _json_bytes({**body, "bundle_id": bundle_id}, indent=1)
    _write_folder(Path(folder), blobs, bundle_id)
    return load_bundle(folder).manifest


def rewrite_bundle(old: Bundle, folder: Path | str, **changes: Any) -> Manifest:
    """Writes the same graphs once more, with other entries (arguments of `write_bundle`); `old` is the parent.

    Raises:
        BundleError: as `write_bundle`.
    """
    same = {f.name: getattr(old.manifest, f.name) for f in fields(Manifest) if f.name not in _GIVEN}
    recorded = None if "recorded" in changes else unpack(old.parity, old.manifest.sizes, old.manifest.graphs)
    kept = {"domain_files": old.domain_files, "parent_id": old.manifest.bundle_id}
    arguments = {"recorded": recorded, **same, **kept, **changes}
    return write_bundle(folder, graphs=old.graphs, **arguments)


def load_bundle(folder: Path | str) -> Bundle:
    """Reads and verifies a bundle.

    Raises:
        BundleError: anything missing, extra, changed, too large or not as declared; the message names the file.
    """
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    files = {f"{name}.onnx": data for name, data in bundle.graphs.items()} | {PARITY_FILE: bundle.parity}
    vet(files, content=manifest.bundle_id, sizes=manifest.sizes, joints=manifest.action.joints)
    return bundle


def read_bundle(folder: Path | str, *, formats: tuple[int, ...] = (FORMAT_VERSION,)) -> Bundle:
    """Reads a bundle and checks hashes and manifest, but not its graphs: for what is not served.

    Args:
        formats: versions that are read; one of format 2 names neither kind nor domain, one of formats 2 and 3 no
            ranges, and its goal value reads a mask instead of weights.

    Raises:
        BundleError: anything missing, extra, changed, too large or not as declared; the message names the file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(
            f"{folder.name or folder}: no such bundle folder; give a path or the name of a shipped bundle"
        )
    manifest = _parse_manifest(_read_file(folder, MANIFEST, MAX_MANIFEST_BYTES), formats, folder.name)
    blobs = _read_folder(folder, set(manifest.files))
    for name, blob in blobs.items():
        if (found := _sha256(blob)) != manifest.files[name]:
            raise BundleError(
                f"{name}: SHA-256 is {found[:12]}..., the manifest says {manifest.files[name][:12]}...; "
                "the file was changed after it was exported: copy or export the bundle again"
            )
    parity = blobs.pop(PARITY_FILE)
    domain_files = {name: blobs.pop(name) for name in DOMAIN_FILES if name in blobs}
    try:
        check_packed(domain_files, manifest.domain)
    except SpecError as error:
        raise BundleError(f"{error}; copy or export the bundle again") from None
    graphs = {name.removesuffix(".onnx"): blob for name, blob in blobs.items()}
    return Bundle(manifest=manifest, graphs=graphs, parity=parity, domain_files=domain_files)


def domain_of(name_or_path: str) -> str:
    """What `load_domain` takes for a bundle's domain: the path of the file that it carries, else the domain's name.

    One that names none is older than domains are, and its domain the default one.

    Raises:
        BundleError: no such bundle, or one that is damaged.
    """
    folder = resolve_bundle(name_or_path)
    manifest = read_bundle(folder).manifest
    if DOMAIN_FILE in manifest.files:
        return str(folder / DOMAIN_FILE)
    return manifest.domain.name or DEFAULT


def resolve_bundle(name_or_path: str) -> Path:
    """Returns the folder of a bundle given as a path, or as the name of one that ships with the package.

    Raises:
        BundleError: neither; lists the names that ship.
    """
    for candidate in (Path(name_or_path), SHIPPED / name_or_path):
        if (candidate / MANIFEST).is_file():
            return candidate
    names = sorted(p.parent.name for p in SHIPPED.glob(f"*/{MANIFEST}"))
    raise BundleError(
        f"no bundle {name_or_path!r}: neither a folder with a {MANIFEST} nor a shipped name "
        f"({', '.join(names) or 'none ships'}); make one with `skimo export`"
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _json_bytes(value: Any, indent: int | None = None) -> bytes:
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=True, indent=indent)
    except (TypeError, ValueError) as error:
        raise BundleError(f"{MANIFEST}: {error}; use plain finite JSON values") from None
    return text.encode() + b"\n"


def _write_folder(folder: Path, blobs: Mapping[str, bytes], bundle_id: str) -> None:
    if folder.exists() and any(folder.iterdir()):
        if load_bundle(folder).manifest.bundle_id == bundle_id:
            return
        raise BundleError(f"{folder.name}: holds another bundle, and bundles are immutable; choose another folder")
    with new_folder(folder) as new:
        for name, blob in blobs.items():
            (new / name).write_bytes(blob)
        load_bundle(new)


def _read_folder(folder: Path, wanted: set[str]) -> dict[str, bytes]:
    """Reads exactly the files that a bundle has beside its manifest, each once."""
    found = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    if missing := sorted(wanted - found):
        raise BundleError(f"{missing[0]}: missing from the bundle; copy or export the bundle again")
    if extra := sorted(found - wanted):
        raise BundleError(f"{extra[0]}: is no part of a bundle; remove it, or export the bundle again")
    blobs: dict[str, bytes] = {}
    for name in sorted(wanted):
        blobs[name] = _read_file(folder, name, BOUNDS.get(name, MAX_GRAPH_BYTES))
        if (total := sum(map(len, blobs.values()))) > MAX_BUNDLE_BYTES:
            raise BundleError(f"bundle: {total} bytes, at most {MAX_BUNDLE_BYTES}; export smaller networks")
    return blobs


def _read_file(folder: Path, name: str, bound: int) -> bytes:
    path = folder / name
    try:
        status = path.lstat()
    except FileNotFoundError:
        raise BundleError(f"{name}: missing from the bundle; copy or export the bundle again") from None
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{name}: is a link or a folder, must be a plain file; copy the bundle with its files")
    if status.st_size > bound:
        raise BundleError(f"{name}: {status.st_size} bytes, at most {bound}; export a smaller network")
    with open(path, "rb") as file:
        return file.read(bound + 1)


def _parse_manifest(data: bytes, formats: tuple[int, ...], folder: str) -> Manifest:
    try:
        raw = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST}: not JSON ({error}); export the bundle again") from None
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or type(version) is not int or version not in formats:
        old = type(version) is int and version < FORMAT_VERSION
        remedy = f"make it anew with `skimo export --repack {folder} --out NEW`" if old else "export with this version"
        raise BundleError(f"{MANIFEST}: format version {version!r}, this program reads {FORMAT_VERSION}; {remedy}")
    # over what was written: a planner option that is newer than the bundle has its default and does not change the id
    claimed, computed = raw.get("bundle_id"), _sha256(_json_bytes({k: v for k, v in raw.items() if k != "bundle_id"}))
    if version == 2:
        raw = _from_format_2(raw)
    if version < 4:
        raw = {**raw, "ranges": {}}
    wanted = {f.name for f in fields(Manifest)}
    if unknown := sorted(set(raw) ^ wanted):
        raise BundleError(f"{MANIFEST}: field {unknown[0]!r} is missing or unknown; export with this version")
    _check_body(raw)
    try:
        manifest = Manifest(
            **{
                **raw,
                "graphs": tuple(raw["graphs"]),
                "observation": ObservationSpec.from_dict(raw["observation"]),
                "action": ActionSpec.from_dict(raw["action"]),
                "planner": PlannerConfig.from_dict(raw["planner"]),
                "domain": _named(raw["domain"]),
                "robot": _named(raw["robot"]),
            }
        )
        _ = manifest.policy_spec
        check_graphs(manifest.planner, manifest.graphs)
    except (SpecError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{MANIFEST}: {error}; export the bundle again") from None
    if claimed != computed:
        raise BundleError(
            f"{MANIFEST}: id is {str(claimed)[:12]}..., its content gives {computed[:12]}...; "
            "the manifest was changed after the export: copy or export the bundle again"
        )
    return manifest


def _from_format_2(raw: dict[str, Any]) -> dict[str, Any]:
    """Format 2 knew one kind with all of its graphs, the robot's digest alone, and no domain."""
    digest = raw.get("limits_digest", "")
    rest = {name: value for name, value in raw.items() if name != "limits_digest"}
    agent = {"kind": SKIMO, "graphs": list(FORMAT_2_GRAPHS), "state": {}}
    return {**rest, **agent, "domain": {"name": "", "digest": ""}, "robot": {"name": "", "digest": digest}}


def _named(raw: dict[str, Any]) -> Named:
    if set(raw) != {"name", "digest"} or not all(isinstance(text, str) for text in raw.values()):
        raise SpecError(f"domain and robot each hold a name and a digest, not {str(raw)[:80]}")
    return Named(**raw)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not a finite number")


def _check_body(raw: dict[str, Any]) -> None:
    """Checks the plain fields of a manifest."""
    _check_types(raw)
    try:
        check_agent(raw["kind"], raw["graphs"], raw["state"])
    except BundleError as error:
        raise BundleError(f"{MANIFEST}: {error}") from None
    files = raw["files"]
    wanted = [*(f"{name}.onnx" for name in raw["graphs"]), PARITY_FILE]
    if not isinstance(files, dict) or set(files) - set(DOMAIN_FILES) != set(wanted):
        raise BundleError(f"{MANIFEST}: 'files' must name exactly {sorted(wanted)}, and may name a domain's")
    for name, digest in files.items():
        if not isinstance(digest, str) or not _HEX64.fullmatch(digest):
            raise BundleError(f"{MANIFEST}: hash of {name} is not 64 hexadecimal digits; export the bundle again")
    for name in ("skill_horizon", "skill_dim", "latent_dim"):
        value = raw[name]
        if type(value) is not int or not 1 <= value <= MAX_SIZE:
            raise BundleError(f"{MANIFEST}: {name} is {value!r}, must be a whole number of 1 to {MAX_SIZE}")
    _check_ranges(raw["ranges"], raw["observation"])
    for text in _strings(raw):
        if _MACHINE_PATH.search(text):
            raise BundleError(f"{MANIFEST}: holds a path of a machine, {text!r}; write names or digests instead")


def _check_ranges(ranges: dict[str, Any], observation: dict[str, Any]) -> None:
    """Checks that there are none, or a lowest and a highest value per channel."""
    if not ranges:
        return
    low, high, names = ranges.get("low"), ranges.get("high"), observation.get("names")
    for bounds in (low, high):
        listed = set(ranges) == {"low", "high"} and isinstance(bounds, list) and isinstance(names, list)
        if not listed or len(bounds) != len(names):  # type: ignore[arg-type]
            raise BundleError(f"{MANIFEST}: ranges must hold low and high, a number per channel; export again")
        if not all(type(number) in (int, float) and abs(number) <= MAX_RANGE for number in bounds):  # type: ignore
            raise BundleError(f"{MANIFEST}: ranges must be numbers of at most {MAX_RANGE:g} in size; export again")
    if wrong := [i for i, (a, b) in enumerate(zip(low, high)) if a > b]:  # type: ignore[arg-type]
        raise BundleError(f"{MANIFEST}: ranges of channel {wrong[0]}: lowest value above the highest; export again")


def _check_types(raw: dict[str, Any]) -> None:
    for name, types in (
        ("kind", str),
        ("graphs", list),
        ("state", dict),
        ("recipe", dict),
        ("parity", dict),
        ("dataset_digests", dict),
        ("domain", dict),
        ("robot", dict),
        ("ranges", dict),
        ("commit", str),
        ("parent_id", (str, type(None))),
        ("observation", dict),
        ("action", dict),
        ("planner", dict),
    ):
        if not isinstance(raw[name], types):
            raise BundleError(f"{MANIFEST}: {name} is a {type(raw[name]).__name__}; export the bundle again")
    graphs = raw["graphs"]
    if not all(isinstance(name, str) for name in graphs) or graphs != sorted(set(graphs)):
        raise BundleError(f"{MANIFEST}: graphs must be names in order, each once; export the bundle again")


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (str(k), *_strings(v))]
    if isinstance(value, list):
        return [s for v in value for s in _strings(v)]
    if isinstance(value, float) and not math.isfinite(value):
        raise BundleError(f"{MANIFEST}: holds the number {value}; only finite numbers are allowed")
    return []
