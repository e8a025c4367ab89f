"""What everybody agrees on: the data that flows, array specs, errors, and what a policy and an arm can be asked."""
