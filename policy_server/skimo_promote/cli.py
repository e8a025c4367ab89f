"""The commands `skimo bundles`, `skimo promote`, `skimo rollback` and `skimo ledger`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro

from skimo_core.contract.errors import BundleError, SkimoError, SpecError, StoreError
from skimo_server.bundle import Manifest, resolve_bundle

from .canary import CanaryConfig
from .driven import Recordings
from .ledger import Ledger
from .pace import Pace
from .promotion import Promotion, PromotionConfig, summary
from .shadow import ShadowConfig
from .store import DEFAULT, Store
from .trial import TrialConfig
from .watch import Watch
from .watchdog import Watchdog, WatchdogConfig

FAILED, INTERRUPTED = 1, 130


@dataclass(frozen=True, slots=True, kw_only=True)
class _InStore:
    store: Path = DEFAULT
    """folder of the store"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(_InStore):
    """Take a bundle into the store."""

    bundle: Annotated[str, tyro.conf.Positional]
    """its folder, or the name of one that ships"""


@dataclass(frozen=True, slots=True, kw_only=True)
class List(_InStore):
    """Every bundle in the store, where it stands and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(_InStore):
    """One bundle: what it is, and what was decided about it."""

    bundle: Annotated[str, tyro.conf.Positional]
    """its id, or leading digits of it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(_InStore):
    """How two bundles were made otherwise (how they drive otherwise: skimo compare)."""

    a: Annotated[str, tyro.conf.Positional]
    b: Annotated[str, tyro.conf.Positional]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune(_InStore):
    """Remove what was refused or drove long ago."""

    keep: int = 5
    """how many of those stay"""


Command = Add | List | Show | Compare | Prune


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(_InStore):
    """Try a candidate, stage by stage, and make it the incumbent if it passes."""

    bundle: Annotated[str, tyro.conf.Positional] = ""
    """a bundle's folder, the name of one that ships, or an id in the store"""
    watch: tuple[Path, ...] = ()
    """instead: folders in which a learner leaves candidates; each is tried as it comes, and the incumbent is watched"""
    recordings: tuple[Path, ...] = ()
    """folders of the recorders of the robots that this store's server drives"""
    trial: TrialConfig = field(default_factory=TrialConfig)
    shadow: ShadowConfig = field(default_factory=ShadowConfig)
    canary: CanaryConfig = field(default_factory=CanaryConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
    yes: bool = False
    """a person has read the summary, and confirms"""
    again: bool = False
    """try one that was refused before"""
    any_parent: bool = False
    """also one that wasn't made from the incumbent"""

    def __post_init__(self) -> None:
        if bool(self.bundle) == bool(self.watch):
            raise SpecError("give either a bundle, or --watch and folders of candidates")
        if missing := [folder for folder in (*self.watch, *self.recordings) if not folder.is_dir()]:
            raise SpecError(f"{missing[0]}: no such folder")
        if self.watch and not self.recordings:
            raise SpecError("--watch goes by --recordings, the folders of the robot's recorder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback(_InStore):
    """Make the incumbent of before the incumbent again."""

    why: str = "an operator's word"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowLedger(_InStore):
    """Show every decision, or check that none was changed or is missing."""

    verify: bool = False
    """only check"""
    head: str = ""
    """digest that the last line, or one before it, must have: as it was noted elsewhere"""


def bundles(argv: list[str]) -> int:
    """Add, list, show, compare and prune the bundles of a store."""
    command = tyro.cli(Command, args=argv, prog="skimo bundles")  # type: ignore[arg-type]
    return _carried_out("skimo bundles", lambda: _on_bundles(command))


def promote(argv: list[str]) -> int:
    """Try a candidate against the incumbent of a store, stage by stage, and let it drive if it passes."""
    try:
        args = tyro.cli(Promote, args=argv, prog="skimo promote")
        with _sigterm_ends():
            if args.watch:
                _watch(args)
            return 0 if _promote(args) else FAILED
    except SkimoError as error:
        print(f"skimo promote: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def _promote(args: Promote) -> bool:
    store = Store(args.store)

    def confirm(words: str) -> bool:
        print(words)
        return args.yes or (sys.stdin.isatty() and input("let it drive? yes or no: ").strip() == "yes")

    candidate = _candidate(store, args.bundle)
    recordings = Recordings(args.recordings) if args.recordings else None
    return Promotion(store, _config(args), confirm, _say, recordings=recordings).run(candidate)


def _watch(args: Promote) -> NoReturn:
    store, recordings = Store(args.store), Recordings(args.recordings)
    watchdog = Watchdog(store, recordings, args.watchdog, _say)

    def confirm(words: str) -> bool:
        print(words, flush=True)
        return args.yes

    promotion = Promotion(store, _config(args), confirm, _say, recordings=recordings, pace=Pace(between=watchdog.look))
    Watch(store, args.watch, promotion, watchdog, Pace(), _say).run()


def _config(args: Promote) -> PromotionConfig:
    return PromotionConfig(
        trial=args.trial, shadow=args.shadow, canary=args.canary, any_parent=args.any_parent, again=args.again
    )


def _say(words: str) -> None:
    print(f"promote: {words}", flush=True)


@contextmanager
def _sigterm_ends() -> Iterator[None]:
    """A service manager's SIGTERM ends it as Ctrl-C does: with no link left up."""

    def end(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def rollback(argv: list[str]) -> int:
    """Let the bundle drive again that drove before the incumbent."""
    args = tyro.cli(Rollback, args=argv, prog="skimo rollback")

    def lines() -> Iterator[str]:
        entry = Store(args.store).roll_back(args.why)
        yield f"rollback: {entry.bundle_id[:12]} drives, instead of {entry.evidence['instead_of'][:12]}"

    return _carried_out("skimo rollback", lines)


def ledger(argv: list[str]) -> int:
    """Show every decision about a store's bundles, or check the ledger."""
    args = tyro.cli(ShowLedger, args=argv, prog="skimo ledger")
    return _carried_out("skimo ledger", lambda: _on_ledger(Ledger(args.store), args.verify, args.head))


def _carried_out(name: str, lines: Callable[[], Iterator[str]]) -> int:
    try:
        for line in lines():
            print(line)
    except SkimoError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    return 0


def _candidate(store: Store, name: str) -> str:
    """Its id; one from elsewhere is taken in."""
    try:
        source = resolve_bundle(name)
    except BundleError:
        return store.find(name).manifest.bundle_id
    return store.add(source).bundle_id


def _on_bundles(command: Command) -> Iterator[str]:
    store = Store(command.store)
    if isinstance(command, Add):
        yield f"added {store.add(resolve_bundle(command.bundle)).bundle_id}"
    elif isinstance(command, Show):
        bundle_id = store.find(command.bundle).manifest.bundle_id
        yield summary(store, bundle_id)
        for entry in store.history(bundle_id):
            yield f"{entry.at} {entry.who}: {entry.decision}: {entry.why}"
    elif isinstance(command, Compare):
        yield from differences(*(store.find(name).manifest for name in (command.a, command.b)))
    elif isinstance(command, Prune):
        gone = store.prune(command.keep)
        yield f"pruned {len(gone)} bundles{''.join(f' {bundle_id[:12]}' for bundle_id in gone)}"
    else:
        for held in store.bundles():
            recipe = held.manifest.recipe.get("name", "-")
            parent = (held.manifest.parent_id or "-")[:12]
            yield f"{held.manifest.bundle_id[:12]}  {held.state:10s} {recipe:12s} from {parent:12s}  {held.last.why}"


def differences(a: Manifest, b: Manifest) -> Iterator[str]:
    """A line for each entry of their manifests that differs."""
    one, other = (dict(_flat(asdict(manifest))) for manifest in (a, b))
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield f"{name}: {_short(one.get(name))} -> {_short(other.get(name))}"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _short(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _on_ledger(found: Ledger, verify: bool, head: str) -> Iterator[str]:
    entries = found.entries()
    if head and not any(entry.digest.startswith(head) for entry in entries):
        raise StoreError(f"no line has the digest {head[:64]}: this is not the ledger that was noted")
    for entry in () if verify else entries:
        yield f"{entry.number:4d} {entry.at} {entry.who}: {entry.decision} {entry.bundle_id[:12]}: {entry.why}"
    last = entries[-1].digest if entries else "-"
    yield f"ledger: {len(entries)} decisions, each follows the one before; head {last}"
