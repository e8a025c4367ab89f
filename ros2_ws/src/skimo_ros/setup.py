"""Packaging of skimo_ros: an ament_python package that pip installs as well (version from package.xml)."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

NAME = "skimo_ros"
HERE = Path(__file__).resolve().parent
VERSION = ElementTree.parse(HERE / "package.xml").getroot().findtext("version")
NODES = ("policy_node", "gate_node", "recorder_node", "twin_node", "camera_node", "tracker_node", "tf_node")

setup(
    name=NAME,
    version=VERSION,
    description="ROS 2 nodes of skimo",
    license="Apache-2.0",
    package_dir={"": "."},
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "**/*.yaml", "*.xml"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml", "LICENSE", "CHANGELOG.rst"]),
    ],
    install_requires=["skimo_core", "mcap>=1.2", "tyro>=0.9"],
    extras_require={"test": ["pytest"], "watch": ["viser>=1.1,<1.2", "websockets>=15"]},
    entry_points={
        "console_scripts": [f"{node} = {NAME}.{node}:main" for node in NODES],
        "skimo.commands": [
            "record = skimo_ros.record:record",
            "reset = skimo_ros.cli:reset",
            "resume = skimo_ros.cli:resume",
            "scene = skimo_ros.cli:scene",
            "start = skimo_ros.cli:start",
            "status = skimo_ros.cli:status",
            "stop = skimo_ros.cli:stop",
            "watch = skimo_ros.watch:watch",
        ],
        "skimo.doctor": ["ros = skimo_ros.doctor:CHECKS"],
        "skimo.replay": ["robot = skimo_ros.replay:on_robot"],
        "skimo.twin": ["reset = skimo_ros.cli:twin_reset"],
        "skimo.calibrate": ["capture = skimo_ros.capture:capture"],
    },
    zip_safe=False,
)
