"""The machine: clocks, how it schedules, room for recordings, this user's folders. Nothing is changed.

A twin bears a machine that a robot wouldn't: without a robot, what concerns real time alone is ok.
Times s; sizes MiB.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..contract.errors import SetupError
from ..episodes.files import free_mib
from ..link.endpoint import check_private, runtime_folder
from ..link.keys import CLIENT_SECRET, SERVER_SECRET, TRUSTED_SERVER, AllowList, key_folder, load_client_keys, load_pair
from .finding import Asked, Check, Finding, fail, ok, split_remedy, warn

UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2): nothing disciplines this clock."""
WORST_S = 0.1
ENOUGH_MIB, LEAST_MIB = 2048.0, 200.0
"""An hour of recording takes some 200 MiB; the recorder stops below the second."""
WANTED_PRIORITY = 50
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies")
DAEMONS = ("chronyd", "systemd-timesyn", "ntpd", "ntpsec", "ptp4l", "phc2sys")
"""As /proc names them, cut at 15 letters."""


class _Timex(ctypes.Structure):
    """The head of struct timex (adjtimex(2)) on 64 bits; the rest is padding."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def clock_state() -> tuple[bool, float]:
    """Whether the kernel's clock is disciplined, and its largest error, s; raises OSError where nobody tells."""
    timex = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex)) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return not timex.status & UNSYNCHRONISED, timex.maxerror * 1e-6


def synchronised(disciplined: bool, error_s: float, daemons: Sequence[str], *, on_twin: bool) -> Finding:
    """The host's clock against the world's: stamps of the robot's and other machines' are compared with it."""
    who = ", ".join(daemons) or "no time daemon in sight"
    if disciplined and error_s <= WORST_S:
        return ok("clock", f"synchronised to within {error_s * 1e3:.0f} ms ({who})")
    state = f"synchronised, but only to {error_s:.1f} s" if disciplined else "not synchronised"
    if on_twin:
        return ok("clock", f"{state} ({who}); one machine with its twin needs no more")
    return warn(
        "clock", f"{state} ({who})", "apt install chrony, and point it at the lab's time server (chronyc tracking)"
    )


def running_daemons(names: Sequence[str] = DAEMONS, processes: Path = Path("/proc")) -> list[str]:
    """Those of the named programs that run on this machine."""
    found = set()
    for entry in processes.glob("[0-9]*/comm"):
        try:
            found.add(entry.read_text().strip())
        except OSError:  # gone meanwhile
            continue
    return [name for name in names if name in found]


def steady(source: str, resolution_s: float, monotonic: bool) -> Finding:
    """The clock by which everything here is timed."""
    what = f"monotonic clock ticks in {resolution_s * 1e9:.0f} ns" + (f" (source {source})" if source else "")
    if not monotonic or resolution_s > 1e-3:
        return fail("steady clock", what, "use a kernel with a high-resolution monotonic clock")
    if source in SLOW_CLOCKS:
        return warn(
            "steady clock", f"{what}, which is slow to read", "boot with clocksource=tsc where the processor has it"
        )
    return ok("steady clock", what)


def real_time(realtime: bool, release: str, priority: int, *, on_twin: bool) -> Iterable[Finding]:
    """The kernel, and whether this user may run threads in real time (a robot's driver does, 1 kHz)."""
    kind = "a real-time kernel" if realtime else "no real-time kernel"
    limit = "any" if priority < 0 else str(priority)
    if on_twin:
        yield ok("kernel", f"{release}: {kind}; the twin needs none")
        return
    if realtime:
        yield ok("kernel", f"{release}: {kind}")
    else:
        remedy = (
            "install a PREEMPT_RT kernel on the machine that runs the driver (Franka Control Interface documentation)"
        )
        yield warn("kernel", f"{release}: {kind}", remedy)
    if 0 <= priority < WANTED_PRIORITY:
        remedy = "add this user to a group with `rtprio 99` and `memlock unlimited` in /etc/security/limits.d"
        yield warn("priority", f"real-time priority up to {limit}, wanted {WANTED_PRIORITY}", remedy)
    else:
        yield ok("priority", f"real-time priority up to {limit}")


def governors(found: Sequence[str], *, on_twin: bool) -> Finding:
    """How processors choose their speed."""
    kinds = ", ".join(sorted(set(found)))
    if not found:
        return ok("governor", "the processors' speed is not ours to tell (a virtual machine)")
    if set(found) == {"performance"} or on_twin:
        return ok("governor", kinds)
    return warn("governor", f"{kinds}: processors fall asleep between ticks", "cpupower frequency-set -g performance")


def room(folder: Path) -> Finding:
    """Whether recordings can go to a folder, which is not made."""
    place = folder.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return fail("recordings", f"{place} is a file", "name another folder (recordings:=FOLDER)")
    if not os.access(place, os.W_OK | os.X_OK):
        return fail("recordings", f"{place} can't be written by this user", "name another folder (recordings:=FOLDER)")
    left_mib = free_mib(place)
    what = f"{folder}: {left_mib / 1024:.1f} GiB free"
    if left_mib < LEAST_MIB:
        return fail("recordings", what, f"make room: below {LEAST_MIB:.0f} MiB nothing is recorded")
    if left_mib < ENOUGH_MIB:
        return warn("recordings", what, "make room, or name another folder (recordings:=FOLDER)")
    return ok("recordings", what)


def shared_memory(folder: Path = Path("/dev/shm"), user: int | None = None) -> Finding:
    """Where Fast DDS, ROS's default middleware, passes messages between processes."""
    user = os.getuid() if user is None else user
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return fail("shared memory", f"{folder} can't be written", "mount tmpfs there (docker run --ipc=host)")
    segments = list(folder.glob("fastrtps_*")) + list(folder.glob("sem.fastrtps_*"))
    left_mib = free_mib(folder)
    others = [path for path in segments if _owner(path) not in (None, user)]
    what = f"{folder}: {left_mib:.0f} MiB free, {len(segments)} segments of Fast DDS"
    if left_mib < 16:
        return fail("shared memory", what, "end what fills it, or `fastdds shm clean`; in docker give --shm-size=512m")
    if others:
        remedy = "run all nodes as one user, or FASTDDS_BUILTIN_TRANSPORTS=UDPv4 for all"
        return warn("shared memory", f"{what}, {len(others)} of another user, whom this one may not hear", remedy)
    return ok("shared memory", what)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def keys(folder: Path) -> Iterable[Finding]:
    """Keys of a server and its clients over TCP: there or not, and closed to others."""
    there = [name for name in (SERVER_SECRET, CLIENT_SECRET, TRUSTED_SERVER) if (folder / name).exists()]
    if not there:
        yield ok("keys", f"none in {folder}; one machine needs none")
        return
    try:
        if SERVER_SECRET in there:
            load_pair(folder, SERVER_SECRET)
            yield ok("keys", f"this machine's server, which lets in {len(AllowList(folder).names())} clients")
        if load_client_keys(folder) is not None:
            yield ok("keys", "this machine's client, and the server that it trusts")
    except (SetupError, OSError, UnicodeDecodeError) as error:
        yield split_remedy("keys", "fail", str(error))


def _clocks(asked: Asked) -> Iterable[Finding]:
    try:
        disciplined, error_s = clock_state()
        yield synchronised(disciplined, error_s, running_daemons(), on_twin=asked.on_twin)
    except OSError as error:
        yield warn(
            "clock", f"nobody tells whether it is synchronised ({error.strerror})", "timedatectl, chronyc tracking"
        )
    told = time.get_clock_info("monotonic")
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    yield steady(source.read_text().strip() if source.is_file() else "", told.resolution, told.monotonic)


def _scheduling(asked: Asked) -> Iterable[Finding]:
    flag = Path("/sys/kernel/realtime")
    realtime = "PREEMPT_RT" in platform.version() or (flag.is_file() and flag.read_text().strip() == "1")
    priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[1]
    yield from real_time(realtime, platform.release(), priority, on_twin=asked.on_twin)
    files = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    yield governors([path.read_text().strip() for path in files], on_twin=asked.on_twin)


def _places(asked: Asked) -> Iterable[Finding]:
    yield room(Path(asked.recordings))
    folder = runtime_folder()
    if folder.exists():
        check_private(folder)
    yield ok("sockets", f"{folder}, this user's alone" if folder.exists() else f"{folder}, made when it is needed")
    yield from keys(key_folder())


def _memory(asked: Asked) -> Iterable[Finding]:
    yield shared_memory()


CHECKS = (
    Check(name="clocks", look=_clocks),
    Check(name="scheduling", look=_scheduling),
    Check(name="places", look=_places),
    Check(name="shared memory", look=_memory),
)
