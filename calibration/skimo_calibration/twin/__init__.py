"""What calibrates the twin, or plays a cell on it; needs skimo_sim, each module when it is used."""
