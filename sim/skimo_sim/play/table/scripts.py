"""What a teleoperator does on the table: blocks to their pads, onto one another and into the drawer, and back.

From what is seen now to how the fingertips should move. Each script is a function of the present view and of a style
drawn once per attempt, without memory: where the hand is and how far the fingers are open says what comes next.

Ways of doing: `Carry` takes a block from above and sets it down somewhere, or holds it up; `Push` drives a block over
the table with closed fingers; `Hook` opens the drawer by its bar, `Shut` pushes it in; `Home` brings the arm back.
Units m, rad, s; the table's frame, the hand pointing down.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skimo_core.contract.types import Array

from ..arm import CLOSE, OPEN, Aim, View, toward
from ..teleoperator import Style
from .scene import BAR_FRONT_M, BLOCKS, HOOK_M, ON_TABLE_M, SIDE_M, Block, Table

GAIN_HZ, TRAVEL_M_S = 5.0, 0.7
HIGH_M = 0.10
"""How far above where it works the hand travels."""
GRIPPED_M = (0.0145, 0.0228)
"""Mean finger position while a block is held."""
RELEASED_M = 0.026
AIM_M = 0.009
"""Off a place by less is at it."""
STEEP = 3.0
"""How much higher the hand stays per metre beside its way down."""
HOOK_HIGHER_M = 0.005
"""Above the hook's place, so that the fingers' thicker part stays off the bar."""
PADS = {"red": (0.62, 0.04), "green": (0.62, -0.11), "blue": (0.62, -0.26)}
ROW = {"red": (0.45, 0.05), "green": (0.45, -0.10), "blue": (0.45, -0.25)}
"""x and y of each block's pad, and of where it starts."""
IN_DRAWER = (0.50, 0.34, 0.031)
LIFTED_M = 0.2
LEFT_BETWEEN_M = 0.25
"""How far short of its pad a block is set down that is left between, were it left at no share of the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """Take a block from above and set it down at a place.

    Attributes:
        block: which.
        to_m: [3] of its middle; None: straight up to `LIFTED_M`, and held there.
        near_m: how near on the level is near enough.
        between: whether it may be left short of its place.
        strays: whether it may be set down beside its place, a little differently each time.
    """

    block: str
    to_m: tuple[float, float, float] | None
    near_m: float = 0.02
    between: bool = False
    strays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Drive a block over the table to a place; `near_m` is near enough."""

    block: str
    to_m: tuple[float, float]
    near_m: float = 0.016
    rate_m_s: float = 0.22


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Open the drawer to `until_m`."""

    until_m: float = 0.132
    rate_m_s: float = 0.27


@dataclass(frozen=True, slots=True, kw_only=True)
class Shut:
    """Push the drawer in to `until_m`."""

    until_m: float = 0.006
    rate_m_s: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The arm to its posture, the hand open; `until_rad` is how near."""

    until_rad: float = 0.15


HOME_Q_RAD = (0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398)

SCRIPTS: dict[str, Carry | Push | Hook | Shut | Home] = {
    "drawer open": Hook(),
    **{f"{name} on pad": Carry(block=name, to_m=(*PADS[name], ON_TABLE_M), between=True) for name in BLOCKS},
    "red on green": Carry(block="red", to_m=(*PADS["green"], ON_TABLE_M + SIDE_M), near_m=0.014),
    "blue in drawer": Carry(block="blue", to_m=IN_DRAWER, near_m=0.03),
    "drawer closed": Shut(),
    **{f"{name} in row": Carry(block=name, to_m=(*ROW[name], ON_TABLE_M), strays=True) for name in BLOCKS},
    **{f"{name} lifted": Carry(block=name, to_m=None) for name in BLOCKS},
    **{f"push {name} to pad": Push(block=name, to_m=PADS[name]) for name in BLOCKS},
    "home": Home(),
}
GOALS = {f"push {name} to pad": f"{name} on pad" for name in BLOCKS}
"""What a script does as a goal of the domain, where its name isn't that goal's."""


def down(yaw_rad: float, tilt_rad: float) -> Array:
    """Fingertip rotation [3, 3]: downwards, the fingers opening along y, turned left and tilted ahead."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    ct, st = np.cos(tilt_rad), np.sin(tilt_rad)
    return (
        np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        @ np.array([[ct, 0.0, st], [0.0, 1.0, 0.0], [-st, 0.0, ct]])
        @ np.diag([1.0, -1.0, -1.0])
    )


def yaw_of(rotation: Array) -> float:
    """How far a hand that points down is turned to the left."""
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def nearest_yaw(yaw_rad: float, hand_yaw_rad: float) -> float:
    """A turn, or one by quarters from it: the nearest to the hand's, rather than one far from straight."""
    ways = yaw_rad + np.pi / 2 * np.arange(-3, 4)
    return float(ways[np.argmin(np.abs(ways - hand_yaw_rad) + 0.5 * np.abs(ways))])


def holding(block: Block, view: View) -> bool:
    """Whether the block is between the fingers, and they are closed on it."""
    off = block.place_m - view.tip_m
    gripped = GRIPPED_M[0] < view.finger_m < GRIPPED_M[1]
    return bool(gripped and np.linalg.norm(off[:2]) < 0.024 and abs(off[2]) < 0.026)


def descend(view: View, target_m: Array, style: Style, *, least_m: float = 0.0, high_m: float = HIGH_M) -> Array:
    """Velocity to `target_m` from above: the further beside it, the higher, and up before aside."""
    offset = target_m - view.tip_m
    beside = float(np.linalg.norm(offset[:2]))
    height = float(np.clip(STEEP * (beside - 0.7 * AIM_M), least_m, high_m))
    offset[2] += height
    low = float(np.clip((offset[2] - 0.03) / 0.03, 0.0, 1.0)) if beside > 0.03 else 0.0
    offset[:2] *= 1.0 - low
    return toward(offset, GAIN_HZ, TRAVEL_M_S * style.pace)


def carry(script: Carry, table: Table, view: View, style: Style) -> Aim:
    """Open above the block, down, close, up, over to the place, down, open."""
    block = table.blocks[script.block]
    if holding(block, view):
        return deliver(script, table, view, style)
    if settled(script, table, style):
        return Aim(velocity_m_s=np.zeros(3), rotation=view.rotation, intent=OPEN, engaged=True)
    hand_yaw = yaw_of(view.rotation)
    rotation = down(nearest_yaw(block.yaw_rad, hand_yaw), 0.5 * style.pitch_rad)
    grip = block.place_m + np.array([0.0, 0.0, 0.3 * style.height_m]) - missed(rotation, style)
    offset = grip - view.tip_m
    beside = float(np.linalg.norm(offset[:2]))
    slack = 0.012 if view.finger_m < 0.036 else 0.0  # once the fingers close they are not opened for a small slip
    turned = abs(np.cos(hand_yaw - nearest_yaw(block.yaw_rad, hand_yaw))) > 0.985 or slack > 0.0
    empty = view.finger_m < GRIPPED_M[0] and not style.misses
    near = not empty and turned and beside < 0.010 + slack and abs(offset[2]) < 0.010 + slack
    if near:
        still = toward(offset, 3.0, 0.1)
        return Aim(velocity_m_s=still, rotation=rotation, intent=CLOSE, engaged=True)
    shut = view.finger_m < 0.033
    velocity = descend(view, grip, style, least_m=0.05 if shut or not turned else 0.0)
    return Aim(velocity_m_s=velocity, rotation=rotation, intent=OPEN)


def deliver(script: Carry, table: Table, view: View, style: Style) -> Aim:
    """Carry the block that is held to its place, and let it go there."""
    block = table.blocks[script.block]
    hold = view.tip_m - block.place_m
    if script.to_m is None:
        way = np.array([0.0, 0.0, LIFTED_M - block.place_m[2]])
        return Aim(
            velocity_m_s=toward(way, GAIN_HZ, 0.4 * style.pace), rotation=view.rotation, intent=CLOSE, engaged=True
        )
    place = place_of(script, table, style)
    rotation = down(style.yaw_rad, 0.5 * style.pitch_rad)
    offset = place + hold - view.tip_m
    there = np.linalg.norm(offset[:2]) < AIM_M and abs(offset[2]) < 0.010
    if there:
        return Aim(velocity_m_s=toward(offset, 3.0, 0.1), rotation=rotation, intent=OPEN, engaged=True)
    velocity = descend(view, place + hold, style, high_m=0.09)
    slow = float(np.clip((GRIPPED_M[1] - view.finger_m) / 0.001, 0.2, 1.0))  # the grip builds up
    return Aim(velocity_m_s=slow * velocity, rotation=rotation, intent=CLOSE, engaged=True)


def settled(script: Carry, table: Table, style: Style) -> bool:
    """Whether the block stands where it is to be set down."""
    if script.to_m is None:
        return False
    off = table.blocks[script.block].place_m - place_of(script, table, style)
    return bool(np.linalg.norm(off[:2]) < script.near_m and abs(off[2]) < 0.012)


def place_of(script: Carry, table: Table, style: Style) -> Array:
    """Where the block is set down this time [3]."""
    assert script.to_m is not None
    place = np.array(script.to_m)
    if script.between and style.extent < 1.0:
        short = place - np.array([(1.0 - style.extent) * LEFT_BETWEEN_M, 0.0, 0.0])
        place = place if table.crowded(script.block, short, 0.10) else short
    if script.strays:
        aside = place + np.array([0.5 * style.yaw_rad, 0.5 * style.pitch_rad, 0.0])
        place = place if table.crowded(script.block, aside, 0.10) else aside
    return place


def missed(rotation: Array, style: Style) -> Array:
    """How far [3] beside the block, along its faces, and above it the hand ends up where its place is misjudged."""
    beside_m, short_m = style.miss_m
    return 0.6 * beside_m * rotation[:, 0] - np.array([0.0, 0.0, 0.6 * short_m])


def push(script: Push, table: Table, view: View, style: Style) -> Aim:
    """Come down behind the block with closed fingers and drive it."""
    block = table.blocks[script.block]
    way = np.array(script.to_m) - block.place_m[:2]
    ahead = way / max(float(np.linalg.norm(way)), 1e-6)
    yaw = float(np.arctan2(ahead[1], ahead[0]))
    rotation = down(nearest_yaw(yaw, yaw_of(view.rotation)), 0.0)
    turn = block.yaw_rad - yaw
    reach = SIDE_M / 2 * (abs(np.cos(turn)) + abs(np.sin(turn))) + 0.010
    tip = view.tip_m - 0.6 * style.miss_m[0] * np.array([-ahead[1], ahead[0], 0.0])
    off = block.place_m[:2] - tip[:2]
    along, aside = float(off @ ahead), float(off @ [-ahead[1], ahead[0]])
    low_m = ON_TABLE_M + 0.004 + 0.2 * style.height_m
    behind = block.place_m[:2] - (reach + 0.022) * ahead
    closed = view.finger_m < 0.006
    if closed and abs(aside) < 0.014 and reach - 0.02 < along < reach + 0.045 and abs(view.tip_m[2] - low_m) < 0.016:
        speed = script.rate_m_s * style.pace * float(np.clip(np.linalg.norm(way) / 0.05, 0.35, 1.0))
        keep = toward(np.array([-ahead[1] * aside, ahead[0] * aside, low_m - view.tip_m[2]]), 4.0, 0.12)
        return Aim(velocity_m_s=np.r_[speed * ahead, 0.0] + keep, rotation=rotation, intent=CLOSE, engaged=True)
    velocity = descend(replace(view, tip_m=tip), np.r_[behind, low_m], style, least_m=0.0 if closed else 0.05)
    return Aim(velocity_m_s=velocity, rotation=rotation, intent=CLOSE)


def hook(script: Hook, table: Table, view: View, style: Style) -> Aim:
    """Come down behind the bar with closed fingers and pull."""
    until = script.until_m * style.extent
    rotation = down(0.6 * style.yaw_rad, 0.5 * style.pitch_rad)
    aim_m = table.hook_m + np.array([0.0, 0.5 * style.height_m, HOOK_HIGHER_M])
    tip = view.tip_m - too_high(style)
    offset = aim_m - tip
    closed = view.finger_m < 0.006
    if closed and abs(offset[0]) < 0.022 and abs(offset[1]) < 0.022 and -0.012 < offset[2] < 0.006:
        slow = float(np.clip((until - table.drawer_m) / 0.06, 0.2, 1.0))  # its end stop is near
        keep = toward(np.array([0.0, offset[1], offset[2]]), 4.0, 0.12)
        pull = np.array([-script.rate_m_s * slow * style.pace, 0.0, 0.0])
        return Aim(velocity_m_s=pull + keep, rotation=rotation, intent=CLOSE, engaged=True)
    return Aim(
        velocity_m_s=descend(replace(view, tip_m=tip), aim_m, style, least_m=0.0 if closed else 0.05),
        rotation=rotation,
        intent=CLOSE,
    )


def shut(script: Shut, table: Table, view: View, style: Style) -> Aim:
    """Come down before the bar with closed fingers and push."""
    rotation = down(0.6 * style.yaw_rad, 0.5 * style.pitch_rad)
    before = np.array([BAR_FRONT_M - table.drawer_m - 0.010, HOOK_M[1] + 0.5 * style.height_m, HOOK_M[2] - 0.008])
    tip = view.tip_m - too_high(style)
    offset = before - tip
    closed = view.finger_m < 0.006
    if closed and -0.012 < offset[0] < 0.035 and abs(offset[1]) < 0.03 and abs(offset[2]) < 0.014:
        slow = float(np.clip(table.drawer_m / 0.03, 0.3, 1.0))
        keep = toward(np.array([0.0, offset[1], offset[2]]), 4.0, 0.12)
        ahead = np.array([script.rate_m_s * slow * style.pace, 0.0, 0.0])
        return Aim(velocity_m_s=ahead + keep, rotation=rotation, intent=CLOSE, engaged=True)
    target = before - [0.016, 0.0, 0.0]
    return Aim(
        velocity_m_s=descend(replace(view, tip_m=tip), target, style, least_m=0.0 if closed else 0.05),
        rotation=rotation,
        intent=CLOSE,
    )


def too_high(style: Style) -> Array:
    """Where the bar's place is misjudged: how far [3] above it the hand goes over it."""
    return np.array([0.0, 0.0, 0.5 * float(np.abs(style.miss_m).sum()) + 0.006 if style.misses else 0.0])


def aim(name: str, table: Table, view: View, style: Style) -> Aim:
    """What to do now by the script of that name."""
    script = SCRIPTS[name]
    if isinstance(script, Carry):
        return carry(script, table, view, style)
    if isinstance(script, Push):
        return push(script, table, view, style)
    if isinstance(script, Hook):
        return hook(script, table, view, style)
    if isinstance(script, Shut):
        return shut(script, table, view, style)
    return Aim(velocity_m_s=np.zeros(3), rotation=view.rotation, intent=OPEN, q_rad=np.array(HOME_Q_RAD))
