"""Engines in child processes, behind one protocol."""
