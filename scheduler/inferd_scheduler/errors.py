"""What a caller gets when a request is not accepted."""

from __future__ import annotations

from typing import Literal

RefusalCode = Literal["invalid", "too_long", "overloaded"]


class Refused(Exception):
    """`submit` did not accept a request; the scheduler's state is as before.

    `invalid`: a field is wrong. `too_long`: it could never run here. `overloaded`: the queue is
    full, try again later. `message` is for the client.
    """

    def __init__(self, code: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.code: RefusalCode = code
        self.message = message
