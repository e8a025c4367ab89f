"""The page's 3D view: arm, cell and bodies as they are, and what the plan makes of them.

    /arm/LINK                   the robot's meshes where they are installed, else its capsules
    /cell/..., /workspace       boxes of the cell; what elbow, wrist, flange and tool may be in
    /objects/BODY               a body and its name; grey where it isn't seen any more
    /goal/BODY                  where the open sub-task wants it
    /plan/...                   predicted at the plan's boundaries: bodies, the arm as a stick figure
    /fan                        ways of tool and bodies under the plan (thick) and under the next best ones (thin)
The root is the arm's base frame; bodies are in their own (`objects_in_base`). What is old is grey. m, rad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import viser

from skimo_core.contract.policy import FloatArray
from skimo_core.contract.types import Array
from skimo_core.domain.bodies import Body, bodies_of, objects_in_base
from skimo_core.domain.cell import Cell
from skimo_core.domain.domain import Domain
from skimo_core.domain.kinematics import joint_frames, points_in
from skimo_core.domain.meshes import FINGER, Surface, capsule, coarser, joined, read_stl
from skimo_core.domain.pose import Pose
from skimo_core.domain.robot import RobotLimits
from skimo_core.domain.rotations import quaternion
from skimo_core.domain.tasks import Subtask
from skimo_core.domain.urdf import FINGER_LIFT_M, FINGER_M

from .robots import Setup
from .tf_node import hand_on_flange
from .watch_feed import Seen

WHITE, DARK, STALE = (235, 235, 238), (90, 94, 100), (150, 150, 150)
FURNITURE, PLAN, GOAL = (140, 150, 165), (28, 110, 210), (43, 150, 70)
BODY_COLOURS = ((230, 119, 0), (190, 75, 219), (12, 133, 153), (201, 42, 42), (92, 148, 13), (95, 61, 196))
SIDE_M = 0.06
"""Of the box that stands for a body: nothing says how large it is."""
SIDES_M = (SIDE_M, SIDE_M, SIDE_M)
MOVED_M = 0.01
"""A body that the plan moves less is not drawn twice."""
MAX_CANDIDATES = 16
GRAIN_M = 0.007
"""Of the meshes: the browser may be on the machine that controls the arm, and without a graphics card."""
HALF_TURN_Z = np.diag([-1.0, -1.0, 1.0])


@dataclass(slots=True)
class _Shown:
    """What can become old: handles, each with the colour that it has while it is fresh."""

    handles: list[tuple[Any, tuple[int, int, int]]]
    fresh: bool = True

    def show(self, fresh: bool) -> None:
        if fresh != self.fresh:
            for handle, colour in self.handles:
                handle.color = colour if fresh else STALE
            self.fresh = fresh


class Stage:
    """Draws on a page.

    Args:
        scene: of a viser server, empty.

    Attributes:
        bodies: that are drawn.
        base: the frame of their poses in the arm's base frame.
        layers: what may be hidden, by name.
    """

    def __init__(self, scene: viser.SceneApi, setup: Setup, cell: Cell) -> None:
        self._scene, self._domain = scene, setup.domain
        self._limits = setup.limits if setup.domain.observation.joints else None
        self.bodies = bodies_of(setup.domain.observation)
        self.base = objects_in_base(setup.domain, setup.rig)
        self._aged = _Shown(handles=[])
        self._links: dict[str, Any] = {}
        self._bodies: dict[str, Any] = {}
        self._drawn_plan: tuple[int, int] = (0, 0)
        self._drawn_goal: tuple[object, ...] = ()
        self._ghosts: list[Any] = []
        self._goals: list[Any] = []
        scene.set_up_direction("+z")
        scene.configure_default_lights(True, cast_shadow=False)
        self.layers: dict[str, Any] = {
            name: scene.add_frame(f"/{name}", show_axes=False) for name in ("cell", "plan", "fan", "goal")
        }
        scene.add_frame("/objects", show_axes=False, position=self.base.position_m, wxyz=self.base.wxyz)
        scene.add_frame("/base", axes_length=0.15, axes_radius=0.004)
        self._draw_cell(cell)
        if self._limits is not None:
            self._draw_arm(self._limits)
        for index, body in enumerate(self.bodies):
            self._draw_body(body, BODY_COLOURS[index % len(BODY_COLOURS)])

    def show(self, seen: Seen, wanted: Subtask | None, *, fresh: bool) -> None:
        """Draw what was seen, and the plan and the goal where they are new."""
        self._aged.show(fresh)
        if self._limits is not None:
            self._move_arm(self._limits, seen.observation_O)
        for body in self.bodies:
            self._move_body(body, body.pose(seen.observation_O))
        plan = (id(seen.predicted_PO), id(seen.candidates))
        if plan != self._drawn_plan:
            self._draw_plan(seen)
            self._drawn_plan = plan
        goal = (wanted.name, wanted.goal) if wanted else ()
        if goal != self._drawn_goal:
            self._draw_goal(wanted)
            self._drawn_goal = goal

    # --- arm --------------------------------------------------------------------------------------------------------

    def _draw_arm(self, limits: RobotLimits) -> None:
        for name, surface, colour in arm_surfaces(limits):
            self._links[name] = self._scene.add_frame(f"/arm/{name}", show_axes=False)
            mesh = self._scene.add_mesh_simple(
                f"/arm/{name}/mesh", surface.vertices_m, surface.faces, color=colour, side="double", cast_shadow=False
            )
            self._aged.handles.append((mesh, colour))

    def _move_arm(self, limits: RobotLimits, observation_O: Array) -> None:
        q_rad = observation_O[: limits.joints]
        if not np.isfinite(q_rad).all():
            return
        finger_m = np.nan_to_num(observation_O[limits.joints : limits.joints + len(limits.finger_names)])
        for name, pose in link_poses(limits, q_rad, finger_m).items():
            if (link := self._links.get(name)) is not None:
                link.position, link.wxyz = pose.position_m, pose.wxyz

    # --- cell -------------------------------------------------------------------------------------------------------

    def _draw_cell(self, cell: Cell) -> None:
        scene, low, high = self._scene, cell.workspace_low_m, cell.workspace_high_m
        for box in cell.boxes:
            scene.add_box(
                f"/cell/{box.name}",
                color=FURNITURE,
                dimensions=2 * box.half_m,
                position=box.centre_m,
                wxyz=quaternion(box.rotation),
                opacity=0.35,
                cast_shadow=False,
            )
        floor_m = min([0.0, *(float(box.centre_m[2] - box.half_m[2]) for box in cell.boxes)])
        for plane in cell.planes:
            if abs(plane.normal[2]) > 0.99:
                floor_m = max(floor_m, plane.offset_m * float(np.sign(plane.normal[2])))
        scene.add_grid("/cell/floor", width=6.0, height=6.0, shadow_opacity=0.0, position=(0.0, 0.0, floor_m))
        self.layers["workspace"] = scene.add_box(
            "/workspace",
            color=(120, 160, 220),
            dimensions=high - low,
            position=(low + high) / 2,
            wireframe=True,
            visible=False,
        )

    def show_layer(self, name: str, visible: bool) -> None:
        """Show or hide one of `layers`."""
        self.layers[name].visible = visible

    # --- bodies -----------------------------------------------------------------------------------------------------

    def _draw_body(self, body: Body, colour: tuple[int, int, int]) -> None:
        scene, name = self._scene, f"/objects/{body.name}"
        self._bodies[body.name] = scene.add_frame(name, axes_length=1.5 * SIDE_M, axes_radius=0.003, visible=False)
        box = scene.add_box(f"{name}/box", color=colour, dimensions=SIDES_M, cast_shadow=False)
        scene.add_label(f"{name}/label", body.name, position=(0.0, 0.0, SIDE_M), anchor="bottom-center")
        self._aged.handles.append((box, colour))

    def _move_body(self, body: Body, pose: Pose | None) -> None:
        frame = self._bodies[body.name]
        frame.visible = pose is not None
        if pose is not None:
            frame.position, frame.wxyz = pose.position_m, pose.wxyz

    def _draw_goal(self, wanted: Subtask | None) -> None:
        _remove(self._goals)
        goal_O = np.full(self._domain.observation.size, np.nan)
        if wanted is not None:
            goal_O[list(wanted.channels)] = wanted.goal
        for body in self.bodies:
            if (pose := body.pose(goal_O)) is not None:
                self._goals.append(self._ghost(f"/goal/{body.name}", pose, GOAL, 0.35))
                self._goals.append(self._scene.add_label(f"/goal/{body.name}/label", "goal", anchor="bottom-center"))

    # --- plan -------------------------------------------------------------------------------------------------------

    def _draw_plan(self, seen: Seen) -> None:
        _remove(self._ghosts)
        if seen.predicted_PO is None:
            return
        ways = ways_of(self._domain, self._limits, self.bodies, self.base)
        now_O = seen.observation_O.astype(np.float32)[None]
        chosen_PO = np.concatenate([now_O, seen.predicted_PO])
        if seen.candidates is not None and len(seen.candidates.weights_E):
            others_EPO = seen.candidates.predicted_EPO[:MAX_CANDIDATES]
            tracks = [way for row in others_EPO for way in ways(np.concatenate([now_O, row]))]
            self._lines("/fan/others", tracks, (120, 170, 235), 0.0025)
        self._lines("/fan/plan", ways(chosen_PO), PLAN, 0.008)
        for step, row_O in enumerate(seen.predicted_PO):
            self._draw_boundary(seen, row_O, step, len(seen.predicted_PO))

    def _draw_boundary(self, seen: Seen, row_O: FloatArray, step: int, steps: int) -> None:
        """Bodies that have moved by then, and the arm as a stick figure; the later, the fainter."""
        opacity = 0.5 - 0.35 * step / max(steps - 1, 1)
        for body in self.bodies:
            now, then = body.pose(seen.observation_O), body.pose(row_O)
            if now is not None and then is not None and np.linalg.norm(then.position_m - now.position_m) > MOVED_M:
                self._ghosts.append(self._ghost(f"/plan/{body.name} {step + 1}", then, PLAN, opacity))
        if self._limits is not None:
            faint = 90 + 130 * step // max(steps, 1)
            stick_m = stick(self._limits, row_O[: self._limits.joints].astype(np.float64))
            self._lines(f"/plan/arm {step + 1}", [stick_m], (faint, min(255, faint + 50), 235), 0.006)

    def _lines(self, name: str, tracks: Sequence[Array], colour: tuple[int, int, int], thickness_m: float) -> None:
        segments = [np.stack([way[:-1], way[1:]], axis=1) for way in tracks if len(way) > 1]
        finite = [rows[np.isfinite(rows).all(axis=(1, 2))] for rows in segments]
        points = np.concatenate(finite) if finite else np.zeros((0, 2, 3))
        if len(points):
            line = self._scene.add_line_segments(name, points.astype(np.float32), colour, thickness=thickness_m)
            self._ghosts.append(line)

    def _ghost(self, name: str, pose: Pose, colour: tuple[int, int, int], opacity: float) -> Any:
        """A box where a body is not, placed in the base's frame: one that is drawn again and again under a frame of its
        own was once seen elsewhere (viser 1.1.1)."""
        pose = self.base.of(pose)
        return self._scene.add_box(
            name,
            color=colour,
            dimensions=SIDES_M,
            opacity=opacity,
            position=pose.position_m,
            wxyz=pose.wxyz,
            cast_shadow=False,
        )


def ways_of(domain: Domain, limits: RobotLimits | None, bodies: Sequence[Body], base: Pose) -> Any:
    """A function from observations [N, O] to the ways [N, 3] of the tool, if there is an arm, and of each body."""

    def ways(rows_NO: npt.NDArray[np.floating]) -> list[Array]:
        found = []
        if limits is not None:
            q_rad = np.asarray(rows_NO[:, : limits.joints], np.float64)
            found.append(points_in(limits, joint_frames(limits, q_rad))[:, -1])
        for body in bodies:
            poses = [body.pose(row) for row in rows_NO]
            own_m = np.array([np.full(3, np.nan) if pose is None else pose.position_m for pose in poses])
            if np.linalg.norm(np.nan_to_num(own_m - own_m[0]), axis=1).max() > MOVED_M:
                found.append(base.points(own_m))
        return found

    return ways


def stick(limits: RobotLimits, q_rad: Array) -> Array:
    """The arm as a line [J + 3, 3] through its joints' origins, flange and tool."""
    frames = joint_frames(limits, q_rad[None])
    return np.concatenate([frames[1][:, 0], points_in(limits, frames)[0, -2:]])


def link_poses(limits: RobotLimits, q_rad: Array, finger_m: Array) -> dict[str, Pose]:
    """Where the frames of links, hand and fingers stand in the base frame, by name; fingers are finger1, finger2."""
    rotations, origins = joint_frames(limits, q_rad[None])
    poses = {f"link{k}": Pose(position_m=origins[k, 0], rotation=rotations[k, 0]) for k in range(len(origins))}
    if "hand" in limits.capsules.links:
        poses["hand"] = hand = poses[f"link{limits.joints}"].of(hand_on_flange(limits))
        for index, (turn, way_m) in enumerate(zip((np.eye(3), HALF_TURN_Z), finger_m)):
            slide = Pose(position_m=np.array([0.0, turn[1, 1] * way_m, FINGER_LIFT_M]), rotation=turn)
            poses[f"finger{index + 1}"] = hand.of(slide)
    return poses


def arm_surfaces(limits: RobotLimits) -> list[tuple[str, Surface, tuple[int, int, int]]]:
    """Each link's name, surface in its frame, and colour: meshes where all are installed, else capsules."""
    links = [name for name in limits.capsules.links if name != "fingers"]
    fingers = [f"finger{k + 1}" for k in range(len(limits.finger_names))] if "hand" in links else []
    paths = {name: limits.meshes.path(name) for name in (*links, FINGER)} if limits.meshes is not None else {}
    if paths and all(paths.values()):
        surfaces = {name: coarser(read_stl(path), GRAIN_M) for name, path in paths.items() if path is not None}
        finger = surfaces.pop(FINGER)
    else:
        surfaces = {name: capsules_of(limits, name) for name in links}
        finger = _finger_box(limits)
    found = [(name, surface, DARK if name in ("hand",) else WHITE) for name, surface in surfaces.items()]
    return [*found, *((name, finger, DARK) for name in fingers)]


def capsules_of(limits: RobotLimits, link: str) -> Surface:
    """The capsules of a link, in its frame."""
    shape, index = limits.capsules, limits.capsules.links.index(link)
    mine = shape.link == index
    return joined([capsule(a, b, r) for (a, b), r in zip(shape.ends_m[mine], shape.radius_m[mine])])


def _finger_box(limits: RobotLimits) -> Surface:
    """A finger of no mesh, in its frame: as its URDF has it."""
    length_m = limits.tool_m - limits.flange_m - FINGER_LIFT_M
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    corners *= [FINGER_M[0], FINGER_M[1], length_m]
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [triangle for a, b, c, d in sides for triangle in ((a, b, c), (a, c, d))]
    return Surface(vertices_m=corners, faces=np.array(faces, np.uint32))


def _remove(handles: list[Any]) -> None:
    for handle in handles:
        handle.remove()
    handles.clear()
