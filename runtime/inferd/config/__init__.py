"""The daemon's options: one table, and the values that flags, environment and file give them."""

from __future__ import annotations

from inferd.config.serve import DEMO_MODEL, ServeConfig
from inferd.config.sources import load
from inferd.config.specs import SPECS

__all__ = ["DEMO_MODEL", "SPECS", "ServeConfig", "load"]
