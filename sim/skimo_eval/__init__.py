"""Sim-in-the-loop testing: trials in process and through the full stack, statistics, the demo."""
