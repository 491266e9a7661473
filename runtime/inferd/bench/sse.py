"""Server-sent events, as the HTML standard frames them (section 9.2), told apart byte by byte."""

from __future__ import annotations


class EventReader:
    """Cuts a body into its events' data; comments and other fields are skipped.

    Lines end with LF or CRLF. A single CR, which the standard allows as well, is not looked for:
    no server of this dialect sends it.
    """

    def __init__(self) -> None:
        self._rest = b""  # of a line that has not ended
        self._data: list[bytes] = []  # of an event that has not ended

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of each event that `chunk` completes."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].strip())
            elif self._data and not line.rstrip(b"\r"):
                events.append(b"\n".join(self._data))
                self._data = []
        return events

    @property
    def incomplete(self) -> bool:
        """Whether the body would end within an event."""
        return bool(self._rest or self._data)
