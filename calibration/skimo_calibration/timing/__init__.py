"""How late states, commands and pictures are."""
