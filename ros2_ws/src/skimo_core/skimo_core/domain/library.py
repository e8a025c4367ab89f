"""Where data files of domains, robots, cells and conditions are found: by name, by path, or through an entry point.

    a name with a slash, or that ends in .yaml or .yml      the file at that path
    else, one that the package ships                        <package>/<kind>/<name>.yaml
    else, an entry point of group skimo.<kind>              an installed package's own: it names a path of the file

    [project.entry-points."skimo.domains"]
    workbench = "mylab.skimo:WORKBENCH"          # WORKBENCH = Path(__file__).parent / "workbench.yaml"
A name that ships wins, so that no installed package can change what `panda` means.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from ..contract.errors import SpecError

MAX_BYTES = 1024 * 1024
HOME = "skimo_core.domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data file's words.

    Attributes:
        text: of the file.
        where: what it is called in errors.
        folder: what paths in it are relative to; None where it ships.
    """

    text: str
    where: str
    folder: Path | None = None


def shipped(kind: str, package: str = HOME) -> tuple[str, ...]:
    """Names of the files of a kind that `package` ships."""
    folder = resources.files(package).joinpath(kind)
    return tuple(sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".yaml")))


def known(kind: str, package: str = HOME) -> tuple[str, ...]:
    """Names of a kind ("domains", "robots", "cells"): what ships, then what other packages bring."""
    ships = shipped(kind, package)
    return (*ships, *(name for name in sorted(metadata.entry_points(group=f"skimo.{kind}").names) if name not in ships))


def is_path(name: str) -> bool:
    """Whether it is meant as a file's path."""
    return "/" in name or name.endswith((".yaml", ".yml"))


def find(kind: str, name_or_path: str | Path, package: str = HOME) -> Source:
    """The data file of that kind, `package` being the one that ships such files.

    Raises:
        SpecError: no such name (listing those that there are), or a file that can't be read.
    """
    name, singular = str(name_or_path), kind[:-1]
    if is_path(name):
        return _read(Path(name).expanduser(), f"{singular} {name}")
    ours = resources.files(package).joinpath(kind, f"{name}.yaml")
    if name and ours.is_file():
        return Source(text=ours.read_text(encoding="utf-8"), where=f"{kind}/{name}.yaml")
    for entry in metadata.entry_points(group=f"skimo.{kind}", name=name):
        return _read(_brought(entry), f"{singular} {name} of {entry.value}")
    raise SpecError(
        f"no {singular} {name!r}; there are {', '.join(known(kind, package))}; a file of your own is given by its path "
        f"(with a slash, or ending in .yaml)"
    )


def beside(source: Source, name: str) -> str:
    """A name that stands in `source`: a path in it is relative to its own folder."""
    return str(source.folder / name) if source.folder is not None and is_path(name) else name


def _brought(entry: metadata.EntryPoint) -> Path:
    try:
        return Path(entry.load())
    except Exception as error:  # another package's code: whatever it raises means that its file can't be had
        raise SpecError(f"entry point {entry.name} = {entry.value} gives no path: {error}") from error


def _read(path: Path, what: str) -> Source:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SpecError(f"{what} holds more than {MAX_BYTES} bytes; is it the right file?")
        return Source(text=data.decode("utf-8"), where=str(path), folder=path.resolve().parent)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{what} can't be read: {error}") from error
