"""Scenes that the twin can load: an arm in its surroundings, compiled to one MuJoCo model."""
