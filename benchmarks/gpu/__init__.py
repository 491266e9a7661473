"""Checks and measures the GPU path: `scripts/gpu_check`."""
