"""From a few minutes with the robot to a rig file that node, gate and twin read (skimo_core.domain.rig)."""
