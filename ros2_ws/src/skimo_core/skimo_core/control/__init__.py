"""The runtime: from an observation to a command, the same objects in process and in the policy node."""
