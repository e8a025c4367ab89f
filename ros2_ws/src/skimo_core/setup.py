"""Packaging of skimo_core: an ament_python package that pip installs as well.

The version is read from package.xml. No python_requires: colcon cannot read it with newer setuptools.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

NAME = "skimo_core"
HERE = Path(__file__).resolve().parent
VERSION = ElementTree.parse(HERE / "package.xml").getroot().findtext("version")

setup(
    name=NAME,
    version=VERSION,
    description="The ROS-free core of skimo, and its command line",
    license="Apache-2.0",
    package_dir={"": "."},
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "**/*.yaml", "setup/templates/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE", "CHANGELOG.rst"]),
    ],
    install_requires=[
        "numpy>=1.26",
        "PyYAML>=6",
        "pyzmq>=25",
        "ruckig>=0.14",
        "msgpack>=1.0.8",
        "mcap>=1.2",
        "mcap-ros2-support>=0.5",
        "lz4>=4.3",
        "zstandard>=0.22",
        "tyro>=0.9",
    ],
    extras_require={
        "hdf5": ["h5py>=3.10"],
        "ingest": ["h5py>=3.10", "pyarrow>=14", "matplotlib>=3.6", "protobuf>=6.31"],
        "test": ["pytest"],
    },
    entry_points={
        "console_scripts": ["skimo = skimo_core.cli:main"],
        "skimo.commands": [
            "soak = skimo_core.safety.cli:soak",
            "keys = skimo_core.link.keys_cli:keys",
            "urdf = skimo_core.domain.urdf:urdf",
            "ingest = skimo_core.ingest.cli:ingest",
            "repair = skimo_core.episodes.cli:repair",
            "label = skimo_core.episodes.cli:label",
            "replay = skimo_core.episodes.replay_cli:replay",
            "doctor = skimo_core.setup.doctor:doctor",
            "new-domain = skimo_core.setup.new_domain:new_domain",
        ],
        "skimo.doctor": ["core = skimo_core.setup.checks:CHECKS"],
    },
    zip_safe=False,
)
