"""The MuJoCo twin of skimo: scenes, tasks, play data, evaluation, rendering.

Importing this package loads neither MuJoCo nor any scene and registers nothing.
"""
