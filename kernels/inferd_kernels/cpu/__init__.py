"""What the C++ kernels share: they are compiled on first use, and run on a team of threads."""
