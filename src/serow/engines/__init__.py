"""Engines beside the wheel: how they get onto this machine, what they were seen to do, and which one a model runs on."""
