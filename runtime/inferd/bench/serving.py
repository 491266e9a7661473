"""What a run against a server showed: the records of its requests as figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from inferd.bench.goodput import meets
from inferd.bench.record import Record
from inferd.bench.statistics import PERCENTILES, Summary, summarise

METRICS = ("ttft", "tpot", "itl", "e2el")
_SATURATED = 0.9  # of a core
_LATE_S = 0.005
_LENGTH_ERROR = 0.05


class Client(Struct, frozen=True):
    """What the client itself took, and how punctual it was."""

    cpu_s: float
    cpu_share: float  # of one core, over the run
    tokens_per_cpu_s: float
    late: Summary  # seconds: scheduled → sent, without waiting for --max-concurrency


class Report(Struct, frozen=True):
    """A run. Times in seconds, throughput per second of `duration_s`, which lasts from the first
    request's scheduled time to the last reply's end.

    `latencies` hold the requests that ended well: ttft, tpot, itl (of all gaps together) and e2el
    from sending, `ttft_scheduled` and `e2el_scheduled` from when the plan said to send.
    """

    duration_s: float
    completed: int
    failed: int
    errors: dict[str, int]  # by kind
    error_messages: dict[str, str]  # the first of each kind
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int  # of the prompts, whose KV the server had
    events: int  # with text
    request_throughput: float
    output_throughput: float  # tokens of requests that ended well
    total_token_throughput: float
    goodput: float | None  # requests; None: no objectives
    max_running: int
    latencies: dict[str, Summary]
    client: Client
    warnings: list[str]


def report(
    records: Sequence[Record],
    *,
    client_cpu_s: float,
    objectives: Mapping[str, float],
    percentiles: Iterable[float] = PERCENTILES,
    capped: bool = False,
    fresh: bool = False,
) -> Report:
    """The figures of a run.

    Args:
        records: of all requests; at least one.
        capped: requests may have waited for --max-concurrency, so that lateness says nothing.
        fresh: no prompt was meant to begin as another one.
    """
    good = [record for record in records if record.ok]
    bad = [record for record in records if not record.ok]
    duration = max(r.ended for r in records) - min(r.scheduled for r in records)
    prompt_tokens = sum(record.prompt_tokens or 0 for record in good)
    output_tokens = sum(record.tokens for record in good)
    streamed = sum(record.tokens for record in records)
    client = Client(
        client_cpu_s,
        _per(client_cpu_s, duration),
        _per(streamed, client_cpu_s),
        Summary() if capped else summarise((record.wait for record in records), percentiles),
    )
    return Report(
        duration_s=duration,
        completed=len(good),
        failed=len(bad),
        errors=dict(Counter(record.error for record in bad).most_common()),
        error_messages={record.error: record.message for record in reversed(bad)},
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cached_tokens=sum(record.cached_tokens for record in good),
        events=sum(len(record.arrivals) for record in good),
        request_throughput=_per(len(good), duration),
        output_throughput=_per(output_tokens, duration),
        total_token_throughput=_per(prompt_tokens + output_tokens, duration),
        goodput=_per(sum(meets(record, objectives) for record in records), duration)
        if objectives
        else None,
        max_running=max_running(records),
        latencies=latencies(good, percentiles),
        client=client,
        warnings=[
            *_client_warnings(client),
            *_record_warnings(good),
            *_cache_warnings(good, fresh),
        ],
    )


def latencies(good: Sequence[Record], percentiles: Iterable[float]) -> dict[str, Summary]:
    """By metric; see `Report`."""
    percents = tuple(percentiles)
    values: dict[str, Callable[[], Iterable[float]]] = {
        "ttft": lambda: (record.ttft for record in good),
        "tpot": lambda: (record.tpot for record in good if record.tpot is not None),
        "itl": lambda: (gap for record in good for gap in record.itl),
        "e2el": lambda: (record.e2el for record in good),
        "ttft_scheduled": lambda: (record.wait + record.ttft for record in good),
        "e2el_scheduled": lambda: (record.wait + record.e2el for record in good),
    }
    return {name: summarise(get(), percents) for name, get in values.items()}


def max_running(records: Iterable[Record]) -> int:
    """How many requests ran at once at most; one that ends as another is sent does not count
    beside it."""
    moves = sorted(move for record in records for move in ((record.sent, 1), (record.ended, -1)))
    running = most = 0
    for _, change in moves:
        running += change
        most = max(most, running)
    return most


def _per(amount: float, seconds: float) -> float:
    return amount / seconds if seconds > 0 else 0.0


def _client_warnings(client: Client) -> Iterable[str]:
    if client.cpu_share > _SATURATED:
        yield (
            f"the client used {client.cpu_share:.0%} of a core: it may have been what was measured"
        )
    late = dict(client.late.percentiles).get(99.0, client.late.max)
    if late > _LATE_S:
        yield (
            f"the client sent requests late, by {1000 * late:.1f} ms at the 99th percentile; "
            "ttft and e2el from the scheduled time count that"
        )


def _record_warnings(good: Sequence[Record]) -> Iterable[str]:
    untold = sum(record.output_tokens is None for record in good)
    if untold:
        yield (
            f"{untold} replies told no usage: their output tokens are counted by events, "
            "their prompts as 0"
        )
    # Less text than tokens is ordinary (pieces of characters, several tokens at once), more is not.
    odd = sum(record.tokens < len(record.arrivals) for record in good)
    if odd:
        yield f"{odd} replies had more events with text than tokens by usage"
    off = [r for r in good if r.output_tokens is not None and r.output_tokens != r.asked_output]
    if off:
        shortest = min(record.tokens for record in off)
        yield (f"{len(off)} replies have another length than asked, the shortest {shortest} tokens")
    yield from _prompt_warnings(good)


def _cache_warnings(good: Sequence[Record], fresh: bool) -> Iterable[str]:
    cached = sum(record.cached_tokens for record in good)
    if fresh and cached > _LENGTH_ERROR * sum(record.prompt_tokens or 0 for record in good):
        yield (
            f"{cached} prompt tokens came from the server's prefix cache: it has met these "
            "prompts before; another --seed makes others"
        )


def _prompt_warnings(good: Sequence[Record]) -> Iterable[str]:
    known = [r for r in good if r.prompt_tokens is not None and r.asked_input]
    asked = sum(record.asked_input for record in known)
    had = sum(record.prompt_tokens or 0 for record in known)
    if asked and abs(had - asked) > _LENGTH_ERROR * asked:
        count = len(known)
        yield f"prompts have {had / count:.1f} tokens on average, not {asked / count:.1f} as asked"


def details(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Each request as it went, for the result file; times in seconds from the first scheduled."""
    records = list(records)
    began = min(record.scheduled for record in records)
    return [
        {
            "scheduled": record.scheduled - began,
            "sent": record.sent - began,
            "ended": record.ended - began,
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "cached_tokens": record.cached_tokens,
            "finish_reason": record.finish_reason,
            "error": record.error,
            "message": record.message,
            "arrivals": [time - began for time in record.arrivals],
        }
        for record in records
    ]
