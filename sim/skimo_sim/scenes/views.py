"""Cameras placed by where they stand and what they look at. Units m, degrees."""

from __future__ import annotations

import numpy as np

from skimo_core.contract.types import Array

from .physics import mujoco


def look_at(camera: mujoco.MjsCamera, name: str, eye_m: Array, target_m: Array, fovy_deg: float = 48.0) -> None:
    """Place a camera; it looks along its -z with x to the right."""
    back = (eye_m - target_m) / np.linalg.norm(eye_m - target_m)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    camera.name = name
    camera.pos = eye_m
    mujoco.mju_mat2Quat(quaternion := np.zeros(4), np.column_stack([right, np.cross(back, right), back]).ravel())
    camera.quat = quaternion
    camera.fovy = fovy_deg
