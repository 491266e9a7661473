"""Checkpoints of given shapes with random weights, to measure speed with."""
