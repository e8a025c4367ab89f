"""SkiMo's maze: a point mass among walls, without an arm."""
