"""Carries the launch files of the skimo stack; there is no code here (see launch/ at the top of the repository)."""
