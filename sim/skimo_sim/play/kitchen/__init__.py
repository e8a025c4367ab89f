"""Scripted play in the kitchen."""
