"""Packaging of skimo_bringup: installs the launch folder (here a relative link) as share/skimo_bringup/launch."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import setup

NAME = "skimo_bringup"
HERE = Path(__file__).resolve().parent
VERSION = ElementTree.parse(HERE / "package.xml").getroot().findtext("version")


def files(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(HERE)) for path in HERE.glob(pattern) if path.is_file())


setup(
    name=NAME,
    version=VERSION,
    description="Launch files and supervisor of the skimo stack",
    license="Apache-2.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE", "CHANGELOG.rst"]),
        (f"share/{NAME}/launch", files("launch/*.py") + files("launch/*.yaml")),
        (f"share/{NAME}/launch/params", files("launch/params/*.yaml")),
        (f"share/{NAME}/launch/security", files("launch/security/*.xml")),
    ],
    install_requires=["skimo_core", "tyro>=0.9"],
    extras_require={"test": ["pytest"]},
    entry_points={
        "skimo.commands": ["up = skimo_bringup.up:up"],
        "skimo.doctor": ["bringup = skimo_bringup.doctor:CHECKS"],
    },
    zip_safe=False,
)
