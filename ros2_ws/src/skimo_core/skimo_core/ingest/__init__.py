"""Other people's recordings, made into episodes of a domain."""
