"""Whether each request got what it had to get: an answer of the right generation, in its words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from benchmarks.show_many.names import Names


@dataclass(frozen=True)
class Answer:
    """What came of one request.

    Args:
        sent, answered: when, by the clock of `Names`; the latter with the reply's first byte.
        status: HTTP's; 0: the connection broke.
        generation: of the adapter that answered, as the reply's header says; empty: none.
        texts: of the choices; None: the client left before the end.
        trouble: what an error said.
    """

    model: str
    prompt: str
    sent: float
    answered: float
    status: int
    generation: str = ""
    texts: tuple[str, ...] | None = ()
    trouble: str = ""


@dataclass
class Judge:
    """Counts, and what was wrong.

    Args:
        expected: (base's name or generation, prompt) → the text, as a quiet daemon gave it.
    """

    names: Names
    expected: dict[tuple[str, str], str]
    right: int = 0
    left: int = 0  # by the client
    unloaded: int = 0  # refused, since the name was unloaded just then
    by_name: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.right + self.left + self.unloaded + len(self.lost) + len(self.stale)

    def hear(self, answer: Answer) -> None:
        """Count `answer`."""
        possible = self.names.possible(answer.model, answer.sent, answer.answered)
        if answer.status == 404 and None in possible:
            self.unloaded += 1
        elif answer.status != 200 or answer.trouble:
            self.lost.append(f"{answer.model}: status {answer.status} {answer.trouble}".strip())
        elif answer.generation not in possible:
            said = answer.generation[:12] or "the bare base"
            self.stale.append(f"{answer.model}: answered by {said}, which it no longer meant")
        elif answer.texts is None:
            self.left += 1
        else:
            self._compare(answer, answer.texts)

    def _compare(self, answer: Answer, texts: tuple[str, ...]) -> None:
        key = (answer.generation or answer.model, answer.prompt)
        if set(texts) != {self.expected[key]}:
            wrong = next(text for text in texts if text != self.expected[key])
            self.stale.append(f"{answer.model}: said {wrong!r}, not {self.expected[key]!r}")
            return
        self.right += 1
        self.by_name[answer.model] += 1
