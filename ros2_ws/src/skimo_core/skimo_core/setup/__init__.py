"""The first hour: a new domain's files, and what is missing on a machine."""
