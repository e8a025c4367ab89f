"""Scripted teleoperators: controllers that do a domain's sub-tasks through the policy's own action interface."""
