"""Stop strings across token borders: an Aho-Corasick automaton over at most 16 strings.

Held back is exactly the longest end of the text that could still become a stop, so no part of
a stop is ever emitted and nothing else waits. O(1) amortised per character.
Source: Aho & Corasick, "Efficient string matching", CACM 18(6), 1975.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class StopMatch(Struct, frozen=True):
    """What a stop string left of the text: `text` is what may still be emitted."""

    text: str
    stop: str


class StopStrings:
    """The automaton; immutable, shared by the choices of a request."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fail = [0]
        self._hit = [""]  # the longest stop that ends in this state
        self._depth = [0]  # characters of a stop's beginning that this state has seen
        for stop in stops:
            self._insert(stop)
        self._link()

    def __bool__(self) -> bool:
        return len(self._next) > 1

    def step(self, state: int, char: str) -> int:
        """The state after `char`."""
        while state and char not in self._next[state]:
            state = self._fail[state]
        return self._next[state].get(char, 0)

    def hit(self, state: int) -> str:
        return self._hit[state]

    def depth(self, state: int) -> int:
        return self._depth[state]

    def _insert(self, stop: str) -> None:
        state = 0
        for char in stop:
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self._hit.append("")
                self._depth.append(self._depth[state] + 1)
            state = self._next[state][char]
        self._hit[state] = stop

    def _link(self) -> None:
        """Set every state's longest proper suffix that is a state, shortest states first."""
        queue = list(self._next[0].values())
        for state in queue:
            for char, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], char)
                queue.append(child)
            self._hit[state] = self._hit[state] or self._hit[self._fail[state]]


class StopWatch:
    """Passes one choice's text through and ends it at the first stop string.

    The first stop is the one that ends first; of several that end at once, the longest.
    """

    def __init__(self, stops: StopStrings, *, include_stop: bool = False) -> None:
        self._stops = stops
        self._include = include_stop
        self._state = 0
        self._held = ""

    def push(self, text: str, *, armed: bool = True) -> str | StopMatch:
        """The text that may be emitted now, or the match that ends the choice.

        A stop that is completed while not `armed` (`min_tokens`) is ordinary text.
        """
        if not self._stops:
            return text
        for position, char in enumerate(text):
            self._state = self._stops.step(self._state, char)
            if armed and (stop := self._stops.hit(self._state)):
                return self._cut(self._held + text[: position + 1], stop)
        whole = self._held + text
        border = len(whole) - self._stops.depth(self._state)
        self._held = whole[border:]
        return whole[:border]

    def flush(self) -> str:
        """What was held back, once no more text can come."""
        rest, self._held, self._state = self._held, "", 0
        return rest

    def _cut(self, whole: str, stop: str) -> StopMatch:
        self._held, self._state = "", 0
        return StopMatch(whole if self._include else whole[: -len(stop)], stop)
