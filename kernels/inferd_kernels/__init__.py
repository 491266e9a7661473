"""Tensor operations: one folder each, with its meaning as a plain torch reference."""
