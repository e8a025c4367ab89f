"""What the policy's node asks its server for: a bundle by its id, folder or name; refused where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from skimo_core.contract.errors import SpecError
from skimo_core.domain.domain import load_domain
from skimo_core.domain.robot import load_limits
from skimo_ros.conversions import to_action
from skimo_ros.policy_node import _asked
from skimo_server.bundle import load_bundle
from skimo_server.testing import make_bundle


def test_a_bundle_is_asked_for_by_id_by_name_or_by_folder(tmp_path: Path) -> None:
    assert _asked("") == (None, None)
    assert _asked("0" * 64) == ("0" * 64, None)
    assert _asked("kitchen") == (None, "kitchen")
    domain = load_domain()
    make_bundle(tmp_path / "bundle", observation=domain.observation, action=domain.action)
    assert _asked(str(tmp_path / "bundle")) == (load_bundle(tmp_path / "bundle").manifest.bundle_id, None)


def test_a_link_pins_no_bundle_but_the_name_that_the_server_was_told(tmp_path: Path) -> None:
    link = str(tmp_path / "incumbent")
    (tmp_path / "incumbent").symlink_to("bundles")
    assert _asked(link) == (None, link)
    make_bundle(tmp_path / "bundles")
    assert _asked(link) == (None, link)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"bundle_id'])
def test_a_folder_that_holds_no_bundle_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(SpecError, match="give a bundle's folder"):
        _asked(str(tmp_path))


JOINTS, FINGERS = load_limits("panda").joint_names, load_limits("panda").finger_names
ACTION = load_domain().action


def test_a_persons_velocities_become_an_action_in_their_direction() -> None:
    said = JointState(name=[JOINTS[2], JOINTS[0], *FINGERS], velocity=[0.75, -0.3, 0.1, 0.1])
    np.testing.assert_allclose(to_action(said, JOINTS, FINGERS, ACTION), [-0.2, 0, 0.5, 0, 0, 0, 0, 1, 1], atol=1e-6)
    fast = JointState(name=[JOINTS[0], JOINTS[1], FINGERS[0]], velocity=[6.0, 3.0, -5.0])
    np.testing.assert_allclose(to_action(fast, JOINTS, FINGERS, ACTION), [1, 0.5, 0, 0, 0, 0, 0, -1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("names", "velocities", "told"),
    [
        ([], [], "0 names"),
        ([JOINTS[0]], [], "1 names and 0 velocities"),
        (["wrist"], [0.1], "joint 'wrist' is not among"),
        ([JOINTS[0]], [float("nan")], "not finite"),
        ([JOINTS[0]], [float("inf")], "not finite"),
    ],
)
def test_a_persons_word_that_is_no_command_is_refused(names: list[str], velocities: list[float], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        to_action(JointState(name=names, velocity=velocities), JOINTS, FINGERS, ACTION)
