"""Limits, checks and the gate: what stands between a policy and a moving arm."""
