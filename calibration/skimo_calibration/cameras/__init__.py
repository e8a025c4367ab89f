"""Where cameras sit, what lenses bend, and what the joints are off: from pictures of a board, and from touches."""
