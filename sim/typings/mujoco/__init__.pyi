"""MuJoCo ships no type information for its compiled modules; everything in it is Any to pyright."""

from typing import Any

def __getattr__(name: str) -> Any: ...
