"""Scripted play on the table with blocks and a drawer."""
