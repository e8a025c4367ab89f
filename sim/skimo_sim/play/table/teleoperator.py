"""The table's scripted teleoperator: what has to be done first, and what keeps the hand clear of the rest.

Promises
  - Uses only what is seen: joint and finger positions and the 13 object values.
  - A block in the hand that is not the script's is put down where it is; the hand leaves what it is at upwards, the
    fingers as they are.
Units rad, m, s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from skimo_core.contract.backend import SimulatedBackend
from skimo_core.contract.errors import SpecError
from skimo_core.contract.specs import ActionSpec
from skimo_core.contract.types import Array, RobotState
from skimo_core.domain.domain import Domain

from ...twin import Twin
from ..arm import CLOSE, OPEN, Aim, ArmOperator, View, toward
from ..disturbance import DisturbanceConfig
from ..kinematics import ArmKinematics
from ..teleoperator import Move, PlayConfig, ScriptInfo, Style
from .order import first, pushable, within_reach, worth_carrying
from .scene import BLOCKS, CHANNELS, HOOK_M, SIDE_M, Table
from .scripts import (
    AIM_M,
    GOALS,
    HOME_Q_RAD,
    LIFTED_M,
    RELEASED_M,
    SCRIPTS,
    Carry,
    Home,
    Hook,
    Push,
    Shut,
    aim,
    holding,
    settled,
)  # fmt: skip

CONFIG = PlayConfig(
    steps=560,
    patience_steps=220,
    trial_patience_steps=300,
    least_scripts=3,
    misjudged_steps=60,
    noticed_steps=(5, 16),
    favoured={"push": 0.0},
    favoured_corrected={"push": 0.0},
    driver_steps=(60, 160),
    disturbance=DisturbanceConfig(
        wobble_steps=5.0, shove=0.10, shove_probability=0.006, shove_steps=6, slip_probability=0.0008, slip_steps=5
    ),
)
"""For 20 control steps a second. Blocks are pushed where that is asked for, and not in play: what it shows done in two
ways, with open fingers and with closed ones, a policy mixes, and does in neither."""
NEAR_BLOCK_M, NEAR_BAR_M = 0.055, (0.05, 0.085)
"""Beside a block, and ahead of or beside the drawer's bar, where fingers stay as they are until the hand is above."""
UP_M_S = 0.4
"""How fast the hand leaves something."""
SHUT_M = 0.012
"""Fingers nearer together than this hold nothing and are round nothing."""
CLEAR_M = 0.16
"""Height of the fingertips from which on the arm may go anywhere."""
POSTURE_RAD = (0.0, -0.4, 0.0, -2.3, 0.0, 1.95, 0.785398)
"""Where the redundancy goes, but for the first joint, which looks at the hand."""


def table_play(domain: Domain, twin: SimulatedBackend) -> TableTeleoperator:
    """Registered as `table`.

    Raises:
        SpecError: the domain's objects are not this table's, or the twin has not its scene.
    """
    if domain.observation.objects != CHANNELS or domain.observation.joints != 7 or not isinstance(twin, Twin):
        raise SpecError(
            f"the table's scripted teleoperator can't work in domain {domain.named}: it knows three blocks and a "
            "drawer alone; help by hand, or take the domain and the twin that ship"
        )
    return TableTeleoperator(twin, domain.action)


def infos() -> dict[str, ScriptInfo]:
    """What is known of each script."""
    undoes = {f"{name} in row": (f"{name} on pad",) for name in BLOCKS} | {"drawer closed": ("drawer open",)}
    return {
        name: ScriptInfo(goal=GOALS.get(name, name), kind=type(script).__name__.lower(), after=undoes.get(name, ()))
        for name, script in SCRIPTS.items()
    }


class TableTeleoperator:
    """Implements `teleoperator.Teleoperator`."""

    def __init__(self, twin: Twin, action: ActionSpec) -> None:
        base = twin.data.body(int(twin.model.body_parentid[twin.model.jnt_bodyid[0]]))
        tip_m = twin.scene.fingertip_m
        kinematics = ArmKinematics(base.xpos.copy(), base.xquat.copy(), twin.limits, fingertip_m=tip_m)
        self.scripts: Mapping[str, ScriptInfo] = infos()
        self.config = CONFIG
        self._arm = ArmOperator(kinematics=kinematics, action=action)

    def view(self, robot: RobotState, objects: Array) -> View:
        """What is seen with the arm as it is and object values [13]."""
        return self._arm.view(robot, objects)

    def move(self, name: str, style: Style, view: View) -> Move:
        """What the script does now."""
        wanted = self.aim(name, view, style)
        posture = np.array(POSTURE_RAD)
        posture[0] = np.arctan2(view.tip_m[1], view.tip_m[0])
        return Move(action_A=self._arm.act(wanted, view, posture), engaged=wanted.engaged)

    def aim(self, name: str, view: View, style: Style) -> Aim:
        """What the fingertips should do now, what comes first done first, and the rest kept clear of."""
        table = Table.of(view.objects)
        now = first(name, table)
        if now != name:
            style = replace(style, extent=1.0)
        held = next((block for block in BLOCKS if holding(table.blocks[block], view)), "")
        if held and (held != getattr(SCRIPTS[now], "block", "") or isinstance(SCRIPTS[now], Push)):
            return put_down(held, table, view)
        return leave(now, table, view, aim(now, table, view, style))

    def over(self, name: str, style: Style, view: View) -> bool:
        """Whether the script has nothing left to do (a little further than the sub-task's threshold asks)."""
        script, table = SCRIPTS[name], Table.of(view.objects)
        if isinstance(script, Home):
            return bool(np.linalg.norm(view.q_rad - HOME_Q_RAD) < script.until_rad)
        if isinstance(script, Hook):
            return table.drawer_m > script.until_m * style.extent
        if isinstance(script, Shut):
            return table.drawer_m < script.until_m
        place_m = table.blocks[script.block].place_m
        if isinstance(script, Push):
            return bool(np.linalg.norm(place_m[:2] - script.to_m) < script.near_m) and place_m[2] < SIDE_M
        if script.to_m is None:
            return bool(place_m[2] > LIFTED_M - 0.012)
        if name == "red on green" and first(name, table) != name:
            return False
        free = view.finger_m > RELEASED_M or bool(np.linalg.norm(view.tip_m - place_m) > NEAR_BLOCK_M)
        return settled(script, table, style) and free

    def applies(self, name: str, view: View) -> bool:
        """Whether there is enough for the script to do, and it can."""
        script, table = SCRIPTS[name], Table.of(view.objects)
        if isinstance(script, Home):
            return bool(np.linalg.norm(view.q_rad - HOME_Q_RAD) > 2.5 * script.until_rad)
        if isinstance(script, Hook):
            return table.drawer_m < 0.09
        if isinstance(script, Shut):
            return table.drawer_m > 0.07
        if isinstance(script, Push):
            return pushable(script, table)
        now = first(name, table)
        if now != name:
            return within_reach(script.block, table) and self.applies(now, view)
        return worth_carrying(script, table)


def put_down(name: str, table: Table, view: View) -> Aim:
    """Let the block that is held down where it is, and let it go."""
    place_m = table.blocks[name].place_m
    gap = place_m[2] - table.support_m(name, place_m)
    if gap < AIM_M:
        return Aim(velocity_m_s=np.zeros(3), rotation=view.rotation, intent=OPEN)
    velocity = toward(np.array([0.0, 0.0, 0.002 - gap]), 5.0, 0.4)
    return Aim(velocity_m_s=velocity, rotation=view.rotation, intent=CLOSE)


def leave(name: str, table: Table, view: View, wanted: Aim) -> Aim:
    """Away from what is not the script's: upwards, the fingers as they are."""
    if around_block(name, table, view) and not wanted.engaged:
        return rise(view, OPEN, UP_M_S if view.finger_m > RELEASED_M - 0.002 else 0.0)
    if at_bar(table, view) and not isinstance(SCRIPTS[name], (Hook, Shut)):
        return rise(view, CLOSE if view.finger_m < SHUT_M else wanted.intent)
    if wanted.q_rad is not None and view.tip_m[2] < CLEAR_M and HOOK_M[0] - 0.3 < view.tip_m[0]:
        return rise(view, wanted.intent)
    return wanted


def rise(view: View, intent: float, speed_m_s: float = UP_M_S) -> Aim:
    """Straight up."""
    return Aim(velocity_m_s=np.array([0.0, 0.0, speed_m_s]), rotation=view.rotation, intent=intent)


def around_block(name: str, table: Table, view: View) -> bool:
    """Whether open fingers are round a block that the script doesn't take."""
    script = SCRIPTS[name]
    own = script.block if isinstance(script, Carry) else ""
    for block, there in table.blocks.items():
        off = view.tip_m - there.place_m
        if block != own and np.linalg.norm(off[:2]) < NEAR_BLOCK_M and -0.03 < off[2] < 0.045:
            return view.finger_m > SHUT_M
    return False


def at_bar(table: Table, view: View) -> bool:
    """Whether the fingertips are at the drawer's bar, before it or behind it."""
    off = view.tip_m - table.hook_m
    return bool(abs(off[0] + 0.015) < NEAR_BAR_M[0] and abs(off[1]) < NEAR_BAR_M[1] and -0.03 < off[2] < 0.04)
