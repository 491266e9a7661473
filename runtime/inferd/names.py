"""What models and adapters may be called."""

from __future__ import annotations

import re

from inferd.errors import InvalidRequest

MAX_NAME_CHARS = 128

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)


def check_name(name: str, field: str) -> None:
    """Raises `InvalidRequest`, naming `field`, unless `name` can stand in a path and, with a
    version behind it, in a request's `model`."""
    first = name.split("/")[0]
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARS or first in (".", ".."):
        raise InvalidRequest(
            f"{field}: letters, digits, `_`, `-`, `.`, and `/` between them; "
            f"at most {MAX_NAME_CHARS} characters",
            field,
        )
