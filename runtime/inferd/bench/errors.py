"""The one error of benchmarks."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot be run as asked. The message names the option, or says what was met."""
