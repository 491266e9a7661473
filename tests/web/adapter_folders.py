"""Adapters for the site's echo engine, each of which says something of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.adapters import folders
from tests.web.site_under_test import byte_tokenizer


def write_adapter(folder: Path, says: str, **config: Any) -> str:
    """Make an adapter that answers with `says` over and over. Returns its path."""
    tokens = byte_tokenizer().encode(says, add_special_tokens=False)
    return str(folders.write_adapter(folder, tuple(tokens), **config))
