"""Compiles grammars off the step path, once each, and puts sequences at their beginning."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import Future
from weakref import WeakKeyDictionary

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from inferd.engines.native.constraint import TOO_SLOW, Constraint, Patience
from inferd.engines.native.vocabulary import Unconstrainable, Vocabulary
from inferd.errors import BusyError, InvalidRequest
from inferd.text.structured.lark import costly_operator, reason_of
from inferd.threads import DeepPool

LIMITS = LLParserLimits(
    step_max_items=5_000,
    initial_lexer_fuel=300_000,
    max_lexer_states=100_000,
    verbose_errors=False,
)
"""Beside the library's own: items in a row of the parser 2000, fuel of the lexer 200,000 a step
(about 20 ms). Its 50,000 items a step let an ambiguous grammar compute for seconds; everyday ones
need some hundred. 100,000 states take up to 50 MB; no everyday grammar was seen to need 100,000
of fuel to begin."""

KEPT = 32  # compiled grammars
USES = 64  # sequences that share a compiled grammar's lexer, which grows with what they say
THREADS = 2
LIVE_CHARS = 16 << 20  # of all grammars in use: compiled, one takes about 100 bytes a character …
LEAST_CHARS = 16 << 10  # … and as much as one so long, however short it is
FIRST_MASK_S = 0.03  # of a thread's own time; 5 ms is much


class Compiled:
    """A grammar at its beginning. Its copies share a lexer, whose states they add to, and the
    time that they may take."""

    def __init__(self, matcher: LLMatcher, ends: frozenset[int], patience: Patience) -> None:
        self._matcher: LLMatcher | None = matcher
        self._ends = ends
        self.patience = patience

    @property
    def too_slow(self) -> bool:
        """Whether no sequence can begin any more; what it kept is free then."""
        if self.patience.is_spent():
            self._matcher = None
        return self._matcher is None

    def begin(self, stops: Collection[int], output: Collection[int]) -> Constraint:
        """A sequence that has said `output`. Raises InvalidRequest."""
        if self.too_slow or self._matcher is None:
            raise InvalidRequest(TOO_SLOW, "grammar")
        if self._ends.isdisjoint(stops):
            raise InvalidRequest("stop_token_ids: must hold a token that ends answers", "grammar")
        never = self._ends.difference(stops)
        return Constraint(self._matcher.deep_copy(), output, never, self.patience)


class Grammars:
    """The grammars of one engine. Called from its thread alone."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kept: OrderedDict[str, tuple[Future[Compiled], int]] = OrderedDict()
        self._live: WeakKeyDictionary[Patience, int] = WeakKeyDictionary()  # their characters
        self._pool = DeepPool(THREADS, thread_name_prefix="compile")

    def compile(self, grammar: str) -> Future[Compiled]:
        """Compile on another thread, or find it done. The future raises InvalidRequest.

        Raises:
            BusyError: the grammars in use leave no room for another.
        """
        future, uses = self._kept.pop(grammar, (None, 0))
        if future is None or _is_stale(future, uses):
            future, uses = self._pool.submit(self._compile, grammar, self._admit(grammar)), 0
        self._kept[grammar] = (future, uses + 1)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return future

    def _admit(self, grammar: str) -> Patience:
        """What stands for a grammar as long as anyone uses it."""
        size = max(LEAST_CHARS, len(grammar))
        if sum(self._live.values()) + size > LIVE_CHARS:
            self._kept.clear()  # those that nobody uses now
        if sum(self._live.values()) + size > LIVE_CHARS:
            raise BusyError("Too many different formats at once, retry later")
        patience = Patience()
        self._live[patience] = size
        return patience

    def warm(self) -> None:
        """Prepare while nothing runs, so that the first grammar need not wait."""
        self._vocabulary.warm()

    def close(self) -> None:
        """Wait for none of the compilations."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def forget(self, grammar: str) -> None:
        """Compile it anew for the next who asks: its lexer may be full."""
        future, _ = self._kept.get(grammar, (None, 0))
        if future is not None and not _is_too_slow(future):
            del self._kept[grammar]

    def _compile(self, grammar: str, patience: Patience) -> Compiled:
        try:
            tokenizer, ends = self._vocabulary.get()
        except Unconstrainable as error:
            message = f"this model's answers cannot be constrained: {error}"
            raise InvalidRequest(message, "grammar") from error
        if operator := costly_operator(grammar):
            raise InvalidRequest(f"the operator {operator} is not supported", "grammar")
        compiled, reason = _try(tokenizer, grammar, ends, patience)
        if compiled is None:  # raised here, an error does not keep the matcher alive
            raise InvalidRequest(reason, "grammar")
        return compiled


def _try(
    tokenizer: LLTokenizer, grammar: str, ends: frozenset[int], patience: Patience
) -> tuple[Compiled | None, str]:
    """The grammar compiled, or why it cannot be used."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()  # some limits show only here
    if matcher.is_error():
        return None, reason_of(matcher.get_error())
    began = time.thread_time()
    matcher.deep_copy().compute_bitmask()  # as each sequence will, with the lexer warm
    if time.thread_time() - began > FIRST_MASK_S:
        return None, TOO_SLOW
    return Compiled(matcher, ends, patience), ""


def _is_stale(future: Future[Compiled], uses: int) -> bool:
    """Whether to compile anew: it failed, or enough have shared it. What is too slow stays so."""
    if future.cancelled() or (future.done() and future.exception() is not None):
        return True
    return uses >= USES and not _is_too_slow(future)


def _is_too_slow(future: Future[Compiled]) -> bool:
    if future.cancelled() or not future.done() or future.exception() is not None:
        return False
    return future.result().too_slow
