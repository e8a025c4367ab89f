"""What a teleoperator does: the kitchen's seven sub-tasks, each undone again, the kettle to a burner, the arm home.

From what is seen now to how the fingertips should move.

Each script is a function of the present view (fingertip pose, finger opening, object values) and of a style drawn once
per attempt; it has no memory, timer or phase counter, so that a memoryless policy can imitate it and a disturbed arm
finds its way back by itself. An attempt may misjudge where the part is: the hand then works beside it in vain. A script
answers with an `Aim`; the teleoperator makes joint velocities of it.

Ways of doing: `pull` closes the fingers round a bar and follows its arc (microwave, hinge cabinet); `push` lays the
fingertips beside a part and drives it (knobs, light switch, slide cabinet); `shove` moves the kettle from behind;
`drag` takes it by a post of its handle to another burner.
Units m, rad, s; world frame.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from skimo_core.contract.types import Array

from ...scenes.kitchen import PANDA_START_Q_RAD
from ..arm import CLOSE, OPEN, Aim, View, toward
from ..kinematics import pointing
from ..teleoperator import Style
from .geometry import HINGE, KETTLE, Handle


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What all scripts share: hand orientation, arm posture, when the sub-task counts as done.

    Attributes:
        part: what it moves: a handle's name, or the kettle.
        back: whether it undoes: the part goes back to near 0.
        yaw_rad, pitch_rad, roll_rad: hand orientation (kinematics.pointing).
        posture_rad: [7] where the redundancy goes.
        until: the joint value at which to stop.
        worth: a script that undoes is worth its while from this value on.
        beside: parts so near that the hand needn't back out from them first.
        entry_yaw_rad: how far to the left of the hand's axis the fingertips move while they go in.
        standoff_m: from where they go in.
        shy: how far they stay back per metre off the way in.
    """

    part: str
    back: bool = False
    yaw_rad: float
    pitch_rad: float
    roll_rad: float = 0.0
    posture_rad: tuple[float, ...]
    until: float = 0.0
    worth: float = 0.0
    beside: tuple[str, ...] = ()
    entry_yaw_rad: float = 0.0
    standoff_m: float = 0.10
    shy: float = 1.5

    def entry(self, rotation: Array) -> Array:
        """The direction [3] in which the fingertips go in."""
        c, s = np.cos(self.entry_yaw_rad), np.sin(self.entry_yaw_rad)
        x, y, z = rotation[:, 2]
        return np.array([c * x - s * y, s * x + c * y, z])

    def orientation(self, style: Style) -> Array:
        return pointing(self.yaw_rad + style.yaw_rad, self.pitch_rad + style.pitch_rad, self.roll_rad)

    def stop_at(self, style: Style) -> float:
        """Where to stop this time."""
        return self.until if self.back else self.until * style.extent

    def over(self, value: float, style: Style) -> bool:
        """Whether nothing is left to do with the part's joint at `value`."""
        until = self.stop_at(style)
        side = -np.sign(until) if self.back else np.sign(until)
        return bool(side * (value - until) >= 0.0)

    def applies(self, value: float) -> bool:
        """Whether there is enough to do."""
        return abs(value) >= abs(self.worth) if self.back else not self.over(value, Style())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull(Script):
    """Grip a vertical bar and follow its arc.

    Attributes:
        radius_m: of the bar.
        beyond_m: how far the fingertips reach past the bar.
        rate_rad_s: opening speed of the door.
        look_ahead_s: the hand follows the chord to where the bar will be then.
    """

    radius_m: float
    beyond_m: float = 0.012
    rate_rad_s: float = 0.9
    look_ahead_s: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Push(Script):
    """Drive a part with the fingertips beside it.

    Attributes:
        contact_m: [3] where the fingertips touch, from the handle's point, in the part's axes at rest.
        side_m: [3] unit vector from the part to the fingertips, at rest.
        gap_m: free space kept between before pushing.
        window_m: how far from the part the fingertips may be and still push.
        rate_m_s: speed of the push.
        lead_m: how far ahead on the part's path the fingertips aim.
        intent: of the fingers.
    """

    contact_m: tuple[float, float, float]
    side_m: tuple[float, float, float]
    gap_m: float = 0.018
    window_m: float = 0.02
    rate_m_s: float = 0.18
    lead_m: float = 0.03
    intent: float = CLOSE


@dataclass(frozen=True, slots=True, kw_only=True)
class Shove(Script):
    """Move the kettle from behind, along +y until it stands at `to_pose`.

    It is a box to a hand that pushes: it goes where its rear face looks from and turns about where it is touched, so it
    is touched off its middle, never past the edges of that face. The hand comes turned, so that its left finger touches
    first: `finger_m` puts that finger behind the middle.

    Attributes:
        to_pose: [7] position, m, and quaternion.
        near: how near is near enough, metres and quaternion added up as in the sub-task's goal.
        way_m: how far it has to go from in front of its place.
        aside_m: further to the left or to the right of its line the kettle has to be drawn in front of its place first.
        half_m: of the box's width. edge_m: from its edges where it is not touched. skin_m: of the finger.
        finger_m, height_m: right of the touch, and above the kettle's origin.
        turn_rad_per_m, turn_rad: how it is to be turned to get back on its line, and at most.
        off_m_per_rad: how far off the middle it is touched to turn it.
        rate_m_s: speed.
    """

    to_pose: tuple[float, ...]
    near: float = 0.22
    way_m: float = 0.4
    aside_m: tuple[float, float] = (-0.12, 0.06)
    half_m: float = 0.122
    edge_m: float = 0.035
    skin_m: float = 0.013
    finger_m: float = 0.03
    height_m: float = 0.07
    turn_rad_per_m: float = 2.5
    turn_rad: float = 0.25
    off_m_per_rad: float = 0.15
    rate_m_s: float = 0.36

    def there(self, kettle: Array, style: Style) -> bool:
        """Whether the kettle [7] is near enough to where it belongs, or to where it is left this time."""
        return bool(np.linalg.norm(kettle - self.to_pose) < self.near + (1.0 - style.extent) * self.way_m)

    def off_line_m(self, kettle: Array) -> float:
        """How far to the right of its line the kettle is."""
        return float(kettle[0] - self.to_pose[0])

    def misplaced(self, kettle: Array) -> bool:
        """Whether the kettle [7] has to be drawn in front of its place before it can be shoved there."""
        left, right = self.aside_m
        return not walled_in(kettle) and not left < self.off_line_m(kettle) < right

    def touch(self, kettle: Array) -> Array:
        """Where the finger touches the kettle [7], on the level: [3] from the kettle's place."""
        turn = turn_rad(kettle)
        wanted = np.clip(self.turn_rad_per_m * self.off_line_m(kettle), -self.turn_rad, self.turn_rad)
        c, s = np.cos(turn), np.sin(turn)
        left, right = -self.half_m * (c - s) + self.edge_m, self.half_m * (c + s) - self.edge_m
        aside = np.clip(self.off_m_per_rad * (wanted - turn), left, right)
        return np.array([aside, aside * s / c - self.half_m / c - self.skin_m, 0.0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Drag(Script):
    """Take the kettle by a post of its handle and draw it to another place.

    By its left post, round which the hand comes from the left; where the microwave leaves no room for that, by its
    right one, for which the hand comes from the front, as square to the handle as it can. A post that is held stays the
    one.

    Attributes:
        to_m: x and y of the place.
        near_m: how near is near enough.
        post_m, height_m, radius_m: where a post is, beside the kettle's middle and above its origin, and how thick.
        beyond_m: how far the fingertips reach past the post.
        rate_m_s: speed.
        shut_in_m: from this y on the left post is out of the hand's reach, left of this x.
        square_rad: the hand's yaw to the handle's at the right post. yaws_rad: its bounds there.
    """

    to_m: tuple[float, float]
    near_m: float = 0.035
    post_m: float = 0.092
    height_m: float = 0.165
    radius_m: float = 0.023
    beyond_m: float = 0.02
    rate_m_s: float = 0.32
    shut_in_m: tuple[float, float] = (-0.1, 0.43)
    square_rad: float = -0.2
    yaws_rad: tuple[float, float] = (-0.6, 0.3)

    def next_m(self, kettle: Array) -> Array:
        """Where [2] the kettle [7] is drawn to first: from between hood and microwave straight out."""
        return np.array([kettle[0], WALLED_IN_M[1] - 0.1] if walled_in(kettle) else self.to_m)

    def by_the_right(self, kettle: Array, view: View) -> bool:
        """Whether the kettle [7] is taken by its right post."""
        left, right = posts(self, kettle)
        gaps_m = [float(np.linalg.norm(post - view.tip_m)) for post in (left, right)]
        if min(gaps_m) < HELD_M and view.finger_m < HELD_FINGER_M:
            return gaps_m[1] < gaps_m[0]
        x, y = self.shut_in_m
        return bool(left[0] < x and left[1] > y)

    def squarely(self, kettle: Array) -> Array:
        """The hand's orientation at the right post of the kettle [7]."""
        yaw_rad = float(np.clip(turn_rad(kettle) + self.square_rad, *self.yaws_rad))
        return pointing(yaw_rad, self.pitch_rad, self.roll_rad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Home(Script):
    """The arm to its posture, the hand open; `until` is how near, rad."""


BURNERS = {
    "kettle at front left": ((-0.258, 0.35), -1.0, (-1.8, -1.3, 2.2, -2.0, 1.0, 2.6, 1.6)),
    "kettle at front right": ((0.221, 0.345), -1.3, (-1.6, -1.0, 2.4, -2.6, 0.9, 3.2, 1.9)),
    "kettle at back right": ((0.216, 0.767), -1.0, (-1.8, -1.3, 2.2, -2.0, 1.0, 2.6, 1.6)),
}
"""Where the kettle is drawn to, m; the hand's yaw and the arm's posture meanwhile. From whatever side it comes, it is
let go within the domain's goal: nothing else could teach that."""

SCRIPTS: dict[str, Pull | Push | Shove | Drag | Home] = {
    "microwave": Pull(
        part="microwave",
        yaw_rad=0.1,
        pitch_rad=-0.8,
        posture_rad=(-1.15, -1.35, 2.15, -1.6, 0.45, 2.75, 2.0),
        until=-0.6,
        rate_rad_s=1.1,
        radius_m=0.020,
        beyond_m=0.03,
        look_ahead_s=0.3,
    ),
    "kettle": Shove(
        part="kettle",
        yaw_rad=-1.0,
        pitch_rad=-1.1,
        posture_rad=(-0.8, -0.95, 2.4, -2.5, 1.0, 2.75, 2.1),
        to_pose=(-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06),
    ),
    "bottom burner": Push(
        part="bottom burner",
        yaw_rad=-0.1,
        pitch_rad=-0.4,
        posture_rad=(-1.2, -0.75, 1.5, -2.25, -0.05, 3.15, 1.7),
        until=-0.78,
        contact_m=(0.029, -0.012, -0.034),
        side_m=(1.0, 0.0, 0.0),
    ),
    "top burner": Push(
        part="top burner",
        yaw_rad=-0.4,
        pitch_rad=0.18,
        posture_rad=(-1.25, -1.25, 1.3, -2.0, -0.1, 3.0, 2.0),
        until=-0.80,
        entry_yaw_rad=0.45,
        contact_m=(-0.029, -0.012, 0.026),
        side_m=(-1.0, 0.0, 0.0),
    ),
    "light switch": Push(
        part="light switch",
        yaw_rad=0.0,
        pitch_rad=-0.4,
        posture_rad=(-1.1, -0.65, 1.45, -2.05, -0.2, 2.95, 1.75),
        until=-0.60,
        contact_m=(0.034, 0.012, 0.0),
        side_m=(1.0, 0.0, 0.0),
    ),
    "slide cabinet": Push(
        part="slide cabinet",
        yaw_rad=0.1,
        pitch_rad=-0.2,
        posture_rad=(-0.45, -0.45, 0.55, -1.85, -0.1, 2.9, 1.15),
        until=0.18,
        entry_yaw_rad=0.4,
        standoff_m=0.16,
        shy=3.0,
        contact_m=(0.018, 0.015, 0.0),
        side_m=(-1.0, 0.0, 0.0),
        gap_m=0.022,
        window_m=0.05,
        lead_m=0.06,
        rate_m_s=0.42,
        intent=OPEN,
    ),
    "hinge cabinet": Pull(
        part="hinge cabinet",
        yaw_rad=-0.1,
        pitch_rad=-0.1,
        posture_rad=(-0.9, -0.85, 1.2, -1.6, 0.0, 2.7, 1.5),
        until=1.18,
        rate_rad_s=1.4,
        radius_m=0.022,
        beyond_m=0.02,
        look_ahead_s=0.35,
    ),
}


def _undone(name: str, **changes: Any) -> Any:
    """The script that undoes another: the part taken from its other side."""
    return replace(SCRIPTS[name], back=True, **changes)


SCRIPTS |= {
    "microwave closed": _undone("microwave", until=-0.05, worth=-0.13, standoff_m=0.2, shy=3.0),
    "bottom burner off": _undone(
        "bottom burner",
        until=-0.08,
        worth=-0.2,
        contact_m=(-0.029, -0.012, -0.034),
        side_m=(-1.0, 0.0, 0.0),
        beside=("light switch",),
    ),
    "top burner off": _undone(
        "top burner", until=-0.08, worth=-0.2, contact_m=(0.029, -0.012, 0.026), side_m=(1.0, 0.0, 0.0)
    ),
    "light off": _undone(
        "light switch",
        until=-0.06,
        worth=-0.15,
        contact_m=(-0.034, 0.012, 0.0),
        side_m=(-1.0, 0.0, 0.0),
        entry_yaw_rad=-0.5,
        standoff_m=0.14,
        shy=3.0,
    ),
    "slide cabinet closed": _undone(
        "slide cabinet", until=0.02, worth=0.06, contact_m=(-0.018, 0.015, 0.0), side_m=(1.0, 0.0, 0.0)
    ),
    "hinge cabinet closed": _undone("hinge cabinet", until=0.08, worth=0.2),
    **{
        name: Drag(
            part="kettle",
            yaw_rad=yaw_rad,
            pitch_rad=-0.9,
            posture_rad=posture_rad,
            to_m=place,
        )
        for name, (place, yaw_rad, posture_rad) in BURNERS.items()
    },
    "home": Home(part="arm", yaw_rad=0.0, pitch_rad=0.0, posture_rad=PANDA_START_Q_RAD, until=0.06),
}

GOALS = {
    "slide cabinet closed": "slide closed",
    "hinge cabinet closed": "hinge closed",
    "kettle at front left": "kettle at start",
    "kettle at front right": "kettle bottom right",
    "kettle at back right": "kettle top right",
}
"""What a script does as a goal of the domain, where its name isn't that goal's."""


GAIN_HZ = 4.0
TRAVEL_M_S = 0.9
SHELF_M = 2.40
"""Height of the cabinets' lower edge."""
DOOR_CLEAR_M = 0.26
"""y at which the fingertips pass in front of an open cabinet door."""
WALLED_IN_M = -0.1, 0.5
"""Left of this x and beyond this y a kettle stands between hood and microwave."""
HELD_M, HELD_FINGER_M = 0.06, 0.036
"""Fingertips so near a post, and so far closed, hold it."""


def funnel(
    view: View,
    target_m: Array,
    axis: Array,
    style: Style,
    *,
    standoff_m: float = 0.10,
    shy: float = 1.5,
    least_m: float = 0.0,
    open_door: bool = False,
) -> Array:
    """Velocity to `target_m`, entered along `axis`: the further off the axis, the further back it stays.

    Before an open cabinet door the level is changed in front of it.
    """
    offset = target_m - view.tip_m
    off_axis = offset - (offset @ axis) * axis
    back = np.clip(shy * (np.linalg.norm(off_axis) - 0.014), least_m, standoff_m)
    offset = offset - back * axis
    side = 1.0 if target_m[2] > SHELF_M else -1.0
    change = float(np.clip((SHELF_M + (0.04 if side > 0 else -0.02) - view.tip_m[2]) * side / 0.03, 0.0, 1.0))
    if open_door and change > 0.0:
        in_front = min(DOOR_CLEAR_M - view.tip_m[1], offset[1])
        offset[1] += change * (in_front - offset[1])
        offset[[0, 2]] *= 1.0 - change * float(np.clip((view.tip_m[1] - DOOR_CLEAR_M - 0.03) / 0.08, 0.0, 0.9))
    return toward(offset, GAIN_HZ, TRAVEL_M_S * style.pace)


def open_door(view: View) -> bool:
    """Whether the hinge cabinet's door stands out into the room."""
    return bool(view.objects[HINGE] > 0.4)


def pull(script: Pull, handle: Handle, view: View, style: Style) -> Aim:
    """Approach open, close round the bar, follow its arc."""
    value = float(view.objects[handle.channel])
    rotation = script.orientation(style)
    axis = rotation[:, 2]
    height = np.array([0.0, 0.0, style.height_m])
    reach = script.beyond_m * axis
    offset = handle.at(value, height) + reach - view.tip_m
    depth = float(offset @ axis)
    aside = float(np.linalg.norm((offset - depth * axis)[:2]))
    slack = 0.012 if view.finger_m < 0.036 else 0.0  # once the fingers close they are not opened for a small slip
    lost = view.finger_m < script.radius_m - 0.006 and not style.misses
    near = not lost and aside < 0.018 + slack and -0.026 - slack < depth < 0.036 + slack
    if near and view.finger_m < script.radius_m + 0.008 and depth < 0.03:
        until = script.stop_at(style)
        sign = np.sign(until - value)
        slow = float(np.clip(abs(until - value) / 0.22, 0.45, 1.0))  # the door has to stand when let go
        slow *= float(np.clip(abs(value) / 0.12, 0.45, 1.0))  # the grip builds up
        slow *= float(np.clip(1.8 - depth / 0.012, 0.4, 1.0))  # the bar has to come along
        slow *= float(np.clip((script.radius_m + 0.008 - view.finger_m) / 0.004, 0.0, 1.0))  # the fingers are closing
        ahead = sign * slow * script.rate_rad_s * style.pace * script.look_ahead_s
        follow = (handle.at(value + ahead, height) - handle.at(value, height)) / script.look_ahead_s
        return Aim(velocity_m_s=follow + toward(offset, 4.0, 0.15), rotation=rotation, intent=CLOSE, engaged=True)
    shut = view.finger_m < 0.032 and not near
    velocity = funnel(
        view,
        handle.at(value, height) + reach,
        script.entry(rotation),
        style,
        standoff_m=script.standoff_m,
        shy=script.shy,
        least_m=0.06 if shut else 0.0,
        open_door=open_door(view),
    )
    return Aim(velocity_m_s=velocity, rotation=rotation, intent=CLOSE if near else OPEN)


def push(script: Push, handle: Handle, view: View, style: Style) -> Aim:
    """Approach beside the part, then drive the contact point along its path."""
    value = float(view.objects[handle.channel])
    rotation = script.orientation(style)
    axis = rotation[:, 2]
    contact = np.array(script.contact_m) + (np.array([0, 0, style.height_m]) if handle.slides else 0.0)
    side = handle.turn(value, np.array(script.side_m))
    touch = handle.at(value, contact)
    offset = touch + script.gap_m * side - view.tip_m
    depth = float(offset @ axis)
    across = offset - (offset @ side) * side - depth * axis
    beside = float((view.tip_m - touch) @ side)
    if abs(depth) < 0.024 and np.linalg.norm(across) < 0.022 and -0.022 < beside < script.gap_m + script.window_m:
        until = script.stop_at(style)
        sign = np.sign(until - value)
        step = (
            script.lead_m
            if handle.slides
            else script.lead_m / np.linalg.norm(handle.at_zero_m + contact - handle.anchor_m)
        )
        carrot = handle.at(value + sign * step, contact) - view.tip_m
        slow = float(np.clip(4.0 * abs(until - value) / abs(until), 0.5, 1.0))
        velocity = toward(carrot, 6.0, script.rate_m_s * slow * style.pace)
        return Aim(velocity_m_s=velocity, rotation=rotation, intent=script.intent, engaged=True)
    velocity = funnel(
        view,
        touch + script.gap_m * side,
        script.entry(rotation),
        style,
        standoff_m=script.standoff_m,
        shy=script.shy,
        open_door=open_door(view),
    )
    return Aim(velocity_m_s=velocity, rotation=rotation, intent=script.intent)


def shove(script: Shove, view: View, style: Style) -> Aim:
    """Come down behind the kettle and push it to the back burner."""
    kettle = view.objects[KETTLE]
    rotation = script.orientation(style)
    ahead = np.array([0.0, 1.0, 0.0])
    touch = kettle[:3] + script.touch(kettle) + (script.finger_m, 0.0, script.height_m)
    offset = touch - view.tip_m
    if abs(offset[0]) < 0.035 and abs(offset[2]) < 0.035 and -0.03 < offset[1] < 0.06:
        keep = toward(offset * np.array([1.0, 0.0, 1.0]), 3.0, 0.15)
        velocity = keep + script.rate_m_s * style.pace * ahead
        return Aim(velocity_m_s=velocity, rotation=rotation, intent=OPEN, engaged=True)
    velocity = funnel(view, touch - 0.02 * ahead, ahead, style, open_door=open_door(view))
    return Aim(velocity_m_s=velocity, rotation=rotation, intent=OPEN)


def turn_rad(kettle: Array) -> float:
    """How far the kettle [7] is turned to the left."""
    return 2.0 * float(np.arctan2(kettle[6], kettle[3]))


def walled_in(kettle: Array) -> bool:
    """Whether the kettle [7] stands between hood and microwave."""
    x, y = WALLED_IN_M
    return bool(kettle[0] < x and kettle[1] > y)


def posts(script: Drag, kettle: Array) -> Array:
    """Where the handle's two posts are held [2, 3], for the kettle's pose [7]."""
    w, x, y, z = kettle[3:]
    along = np.array([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 0.0])
    sides = np.array([[-1.0], [1.0]]) * script.post_m * along
    return kettle[:3] + sides + np.array([0.0, 0.0, script.height_m])


def drag(script: Drag, view: View, style: Style) -> Aim:
    """Approach a post open, close round it, draw it along."""
    kettle = view.objects[KETTLE]
    right = script.by_the_right(kettle, view)
    rotation = script.squarely(kettle) if right else script.orientation(style)
    axis = rotation[:, 2]
    post = posts(script, kettle)[int(right)]
    offset = post + script.beyond_m * axis - view.tip_m
    depth = float(offset @ axis)
    across = offset - depth * axis
    aside = abs(float(across @ rotation[:, 1]))
    level = abs(float(across @ rotation[:, 0]))
    slack = 0.012 if view.finger_m < 0.036 else 0.0
    lost = view.finger_m < script.radius_m - 0.006
    near = not lost and aside < 0.015 + slack and level < 0.04 and -0.03 - slack < depth < 0.03 + slack
    if near and view.finger_m < script.radius_m + 0.006 and depth < 0.035:
        way = np.r_[script.next_m(kettle) - kettle[:2], 0.0]
        firm = float(np.clip((script.radius_m + 0.006 - view.finger_m) / 0.003, 0.0, 1.0))
        speed = script.rate_m_s * style.pace
        velocity = firm * toward(way, 6.0, speed) + toward(offset, 3.0, 0.10)
        return Aim(velocity_m_s=velocity, rotation=rotation, intent=CLOSE, engaged=True)
    shut = view.finger_m < 0.032 and not near
    velocity = funnel(
        view,
        post + script.beyond_m * axis,
        axis,
        style,
        standoff_m=script.standoff_m,
        shy=script.shy,
        least_m=0.06 if shut else 0.0,
        open_door=open_door(view),
    )
    return Aim(velocity_m_s=velocity, rotation=rotation, intent=CLOSE if near else OPEN)


def misjudgement(script: Pull | Push | Shove | Drag, style: Style) -> Array:
    """How far [3] from the part the hand ends up: beside it, which for a push is not up to it, and short of it."""
    beside_m, short_m = style.miss_m
    approach = np.array([0.0, 1.0, 0.0]) if isinstance(script, Shove) else script.orientation(style)[:, 2]
    if isinstance(script, Push):
        return abs(beside_m) * np.array(script.side_m) - short_m * approach
    across = np.cross(approach, (0.0, 0.0, 1.0))
    return beside_m * (across / np.linalg.norm(across)) - short_m * approach


def aim(name: str, handles: dict[str, Handle], view: View, style: Style) -> Aim:
    """What to do now by the script of that name."""
    script = SCRIPTS[name]
    if isinstance(script, Home):
        return Aim(velocity_m_s=np.zeros(3), rotation=view.rotation, intent=OPEN, q_rad=np.array(script.posture_rad))
    if style.misses:
        view = replace(view, tip_m=view.tip_m - misjudgement(script, style))
    if isinstance(script, Pull):
        return pull(script, handles[script.part], view, style)
    if isinstance(script, Push):
        return push(script, handles[script.part], view, style)
    if isinstance(script, Drag):
        return drag(script, view, style)
    return shove(script, view, style)
