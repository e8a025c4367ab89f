"""A lab's model as it is read: MJCF as it stands, URDF with its links' names kept and its meshes found.

Meshes of a URDF may be named `package://NAME/...`: NAME is looked for among the folders above the file, then among what
ROS has installed (AMENT_PREFIX_PATH). A visual mesh of a kind that MuJoCo can't read is left out, and that is logged:
it is only to be looked at. Whatever else is wrong is said in words.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from xml.etree import ElementTree

from skimo_core.contract.errors import SpecError

from .physics import mujoco

log = logging.getLogger(__name__)

PACKAGE_URL, FILE_URL = "package://", "file://"
PREFIXES = "AMENT_PREFIX_PATH"
UNSEEN = 3
"""The group of what is touched where something else is there to be looked at."""
MESHES = (".stl", ".obj", ".msh")
"""Endings of the meshes that MuJoCo reads."""


def read_model(path: Path, where: str) -> mujoco.MjSpec:
    """Parse MJCF or URDF.

    Raises:
        SpecError: no such file, or it is neither; a mesh whose package isn't found, or of a kind that can't be read.
    """
    if not path.is_file():
        raise SpecError(f"{where}: model: there is no file {path}; paths are relative to the scene file")
    try:
        root = ElementTree.parse(path).getroot()
        spec = _urdf(root, path, where) if root.tag == "robot" else mujoco.MjSpec.from_file(str(path))
    except (ElementTree.ParseError, ValueError, mujoco.FatalError) as error:
        raise SpecError(f"{where}: model: {path.name} can't be read as MJCF or URDF: {_line(error)}") from None
    spec.njmax = spec.nconmax = spec.memory = -1  # sizes are found anew for what it is mounted with
    for key in list(spec.keys):
        spec.delete(key)
    return spec


def compiled(spec: mujoco.MjSpec, where: str) -> mujoco.MjModel:
    """Compile a model.

    Raises:
        SpecError: it can't be: a mesh that is missing, a name twice, a body without mass.
    """
    try:
        return spec.compile()
    except (ValueError, mujoco.FatalError) as error:
        hint = ": in a URDF the root link must then be called world" if "free joint" in str(error) else ""
        raise SpecError(f"{where}: model: it doesn't compile: {_line(error)}{hint}") from None


def _urdf(root: ElementTree.Element, path: Path, where: str) -> mujoco.MjSpec:
    """What MuJoCo would drop of a URDF is kept: its visuals, and the links that are fixed to one another."""
    for link in root.iter("link"):
        for part in [child for child in link if child.tag in ("visual", "collision")]:
            for mesh in part.iter("mesh"):
                name = mesh.get("filename", "")
                if part.tag == "visual" and not name.lower().endswith(MESHES):
                    log.warning("%s: the visual mesh %s is left out: only %s are read", where, name, ", ".join(MESHES))
                    link.remove(part)
                    break
                mesh.set("filename", _found(name, path, where))
    extension = root.find("mujoco")
    extension = ElementTree.SubElement(root, "mujoco") if extension is None else extension
    compiler = extension.find("compiler")
    compiler = ElementTree.SubElement(extension, "compiler") if compiler is None else compiler
    compiler.set("discardvisual", "false")
    compiler.set("fusestatic", "false")
    compiler.set("strippath", "false")
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    spec.modelfiledir = str(path.parent)
    for body in spec.bodies:
        solid = [geom for geom in body.geoms if geom.contype or geom.conaffinity]
        if len(solid) < len(body.geoms):
            for geom in solid:
                geom.group = UNSEEN
    return spec


def _found(name: str, path: Path, where: str) -> str:
    """A mesh's path."""
    if not name.lower().endswith(MESHES):
        raise SpecError(f"{where}: model: mesh {name} can't be read: MuJoCo reads {', '.join(MESHES)}; convert it")
    if name.startswith(FILE_URL):
        return name.removeprefix(FILE_URL)
    if not name.startswith(PACKAGE_URL):
        return name
    package, _, inside = name.removeprefix(PACKAGE_URL).partition("/")
    above = [parent if parent.name == package else parent / package for parent in path.resolve().parents]
    shares = [Path(prefix) / "share" / package for prefix in os.environ.get(PREFIXES, "").split(os.pathsep) if prefix]
    for folder in (*above, *shares):
        if (folder / inside).is_file():
            return str(folder / inside)
    raise SpecError(
        f"{where}: model: mesh {name}: no folder {package!r} with {inside} lies beside or above {path.name}, nor in "
        f"what {PREFIXES} names; put it there, source its workspace, or give the mesh a path"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
