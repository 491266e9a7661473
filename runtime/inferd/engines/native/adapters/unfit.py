"""Why an adapter cannot be held."""

from __future__ import annotations

from inferd.messages import AdapterFailCode


class Unfit(Exception):
    """`message` names the tensor or the field, and says why, for whoever loads the adapter."""

    def __init__(self, code: AdapterFailCode, message: str) -> None:
        super().__init__(message)
        self.code: AdapterFailCode = code
        self.message = message


def invalid(message: str) -> Unfit:
    return Unfit("invalid", message)


def unsupported(message: str) -> Unfit:
    return Unfit("unsupported", message)
