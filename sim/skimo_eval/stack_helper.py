"""The scripted teleoperator in the full stack: in a person's place it takes over where the policy holds in doubt.

What a person does there: `policy/intervene` true, velocities on `policy/teleop` at the control rate until the sub-task
is done, `policy/intervene` false, and the episode is resumed (docs/learning.md). Its commands go through the gate as
theirs do, and are recorded as a person's. It sees the arm and the objects as their topics tell, true ones on a twin.
Units rad/s.
"""

from __future__ import annotations

import numpy as np
from sensor_msgs.msg import JointState
from skimo_msgs.msg import PlanStatus
from std_srvs.srv import SetBool

from skimo_core.contract.policy import FloatArray
from skimo_core.control.observe import Observer
from skimo_ros.adapters import load_adapter
from skimo_ros.backend import RosBackend
from skimo_ros.evaluator import Evaluator
from skimo_ros.nodes import EVENT_QOS, Names

from .helper import ScriptedHelper
from .trials import Lab

GOES_ON_S = 2.0
"""Within which the policy node tells that it goes on; what it told before is not held against it."""


class StackHelper:
    """Sees to a hold (`Evaluator.on_hold`): does the sub-task that the policy doubts.

    Args:
        lab: a scene like that of the stack's twin, built under the same condition.
        evaluator: of the stack: hears the policy node, and lets time pass.

    Attributes:
        helps: how often it took over.

    Raises:
        SpecError: the lab's domain has no scripted play.
    """

    def __init__(self, lab: Lab, evaluator: Evaluator) -> None:
        self._lab, self._evaluator, self._operator = lab, evaluator, evaluator.operator
        self._arm = RosBackend()
        self._helper = ScriptedHelper(lab, self._arm)
        self._observer = Observer(lab.domain.observation, max_age_s=np.inf)
        adapter = load_adapter("twin", "")
        self._names = [*adapter.joints, *adapter.fingers]
        self._says = self._operator.node.create_publisher(JointState, Names.TELEOP, EVENT_QOS)
        self._gave_up = ""
        self.helps = 0

    def close(self) -> None:
        """Leave the graph."""
        self._arm.close()

    def __call__(self, held: PlanStatus) -> bool:
        """Whether the episode goes on."""
        if not held.doubt or self._gave_up == held.episode_id or not self._take_over(True):
            return False
        self.helps += 1
        done = self._do(held.subtask, seed=self.helps)
        self._take_over(False)
        if not done:
            self._gave_up = held.episode_id
            return False
        resumed, _ = self._operator.trigger(Names.RESUME)
        return resumed and self._operator.within(self._goes_on, GOES_ON_S)

    def _goes_on(self) -> bool:
        status = self._evaluator.status
        return status is not None and status.state != "held"

    def _do(self, subtask: str, seed: int) -> bool:
        """Acts until a sub-task is done, or the policy goes on to another; false if it is given up."""
        (goal,) = self._lab.domain.task(subtask).subtasks
        self._helper.begin(subtask, seed)

        def done() -> bool:
            if goal.complete(self._sees()) or (status := self._evaluator.status) is None:
                return True
            return status.subtask != subtask or status.state != "held"

        while not done():
            if (action_A := self._helper.act()) is None:
                return False
            self._say(action_A)
            self._operator.within(done, self._lab.domain.action.period_s)
        return True

    def _sees(self) -> FloatArray:
        arm, objects = self._arm.read(), self._arm.read_objects()
        return self._observer.observe(arm, objects, arm.stamp_s)

    def _say(self, action_A: FloatArray) -> None:
        spec = self._lab.domain.action
        velocity = action_A.astype(np.float64)
        velocity[: spec.joints] *= spec.scale_rad_s
        self._says.publish(JointState(name=self._names[: spec.size], velocity=velocity.tolist()))

    def _take_over(self, wanted: bool) -> bool:
        return bool(self._operator.call(SetBool, Names.INTERVENE, SetBool.Request(data=wanted)).success)
