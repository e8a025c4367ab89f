"""Scripted teleoperators: controllers that do the kitchen's sub-tasks through the policy's own action interface."""
