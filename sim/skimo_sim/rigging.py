"""What a rig says of a twin: of its scene and arm, and of its sensors and clocks.

The base's place in the room, the tool, and the cameras' lenses and poses change nothing that a twin tells or does.
"""

from __future__ import annotations

from skimo_core.contract.errors import SpecError
from skimo_core.domain.rig import Placement, Rig

from .scenes.dynamics import Load, Plant


def scene_parts(rig: Rig) -> tuple[str, ...]:
    """Which of its parts only a twin with a scene can do."""
    parts = {
        "dynamics": rig.dynamics is not None,
        "payload": rig.payload is not None,
        "furniture": bool(rig.furniture),
    }
    return tuple(name for name, given in parts.items() if given)


def impairs(rig: Rig) -> bool:
    """Whether by it states or commands are off or late."""
    return rig.joints is not None or bool(rig.state_s or rig.command_s or rig.camera_s)


def plant_of(rig: Rig) -> Plant | None:
    """The arm's dynamics, with a payload that its controller was not told of; None: as the scene has them."""
    if rig.dynamics is None and rig.payload is None:
        return None
    load = None if rig.payload is None else Load(mass_kg=rig.payload.mass_kg, centre_m=rig.payload.centre_m)
    if rig.dynamics is None:
        return Plant(payload=load)
    return Plant(
        friction_nm=rig.dynamics.friction_nm,
        damping_nm_s=rig.dynamics.damping_nm_s,
        armature_kg_m2=rig.dynamics.armature_kg_m2,
        payload=load,
    )


def furniture_of(rig: Rig, scene: str) -> Placement | None:
    """Where a scene's frame lies in the arm's base frame; None: not said.

    Raises:
        SpecError: it says so of furniture that is another scene's.
    """
    if unknown := sorted(set(rig.furniture) - {scene}):
        raise SpecError(
            f"rig {rig.name}: furniture {unknown[0]!r} is not in this twin's scene, which is {scene!r}; give the twin "
            "a rig without it (twin_rig)"
        )
    return rig.furniture.get(scene)
