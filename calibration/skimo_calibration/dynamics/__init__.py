"""Friction, rotors, payload, servos: from joint logs."""
