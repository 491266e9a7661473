"""Records as figures: rates, latencies, goodput, errors, warnings."""

from __future__ import annotations

from typing import Any

import pytest

from inferd.bench.errors import BenchError
from inferd.bench.goodput import meets, parse_objectives
from inferd.bench.record import Record
from inferd.bench.serving import Report, details, max_running, report
from tests.bench.records import record


def made(*records: Record, cpu: float = 0.1, **options: Any) -> Report:
    return report(records, client_cpu_s=cpu, **{"objectives": {}, **options})


def test_rates_are_over_the_time_from_the_first_schedule_to_the_last_end() -> None:
    found = made(
        record(0, scheduled=1.0, arrivals=(1.5, 2.0), ended=2.0),
        record(1, scheduled=2.0, sent=2.5, arrivals=(4.0, 4.5, 5.0)),
    )
    assert found.duration_s == 4.0
    assert (found.completed, found.failed) == (2, 0)
    assert (found.prompt_tokens, found.output_tokens) == (20, 5)
    assert found.request_throughput == 0.5
    assert found.output_throughput == 1.25
    assert found.total_token_throughput == 6.25
    assert found.client.cpu_share == pytest.approx(0.025)
    assert found.client.tokens_per_cpu_s == 50


def test_latencies_count_from_sending_and_from_the_schedule() -> None:
    found = made(record(scheduled=1.0, sent=1.25, arrivals=(1.5, 1.75, 2.5), ended=3.0))
    means = {name: summary.mean for name, summary in found.latencies.items()}
    assert means == {
        "ttft": 0.25,
        "tpot": 0.5,
        "itl": 0.5,
        "e2el": 1.75,
        "ttft_scheduled": 0.5,
        "e2el_scheduled": 2.0,
    }
    assert found.client.late.max == 0.25


def test_tokens_per_output_token_follow_the_usage_and_gaps_the_events() -> None:
    """Two tokens came with each event after the first."""
    found = made(record(arrivals=(1.0, 1.5, 2.0), tokens=5))
    assert found.latencies["tpot"].mean == 0.25
    assert found.latencies["itl"].count == 2
    assert found.latencies["itl"].mean == 0.5
    assert (found.output_tokens, found.events) == (5, 3)


def test_a_reply_of_one_token_has_no_time_per_token() -> None:
    found = made(record(arrivals=(0.5,)))
    assert found.latencies["tpot"].count == found.latencies["itl"].count == 0
    assert found.latencies["ttft"].count == 1


def test_failures_are_counted_by_kind_and_never_among_latencies() -> None:
    found = made(
        record(0),
        record(1, error="http_429", message="queue is full", arrivals=()),
        record(2, error="http_429", message="still full", arrivals=()),
        record(3, error="truncated", message="no [DONE]", arrivals=(0.5, 9.0)),
    )
    assert (found.completed, found.failed) == (1, 3)
    assert found.errors == {"http_429": 2, "truncated": 1}
    assert found.error_messages == {"http_429": "queue is full", "truncated": "no [DONE]"}
    assert found.output_tokens == 3
    assert found.latencies["e2el"].count == 1
    assert found.duration_s == 9.0


@pytest.mark.parametrize(
    ("objective", "good"),
    [
        ("ttft:500", True),
        ("ttft:499", False),
        ("e2el:2000", True),
        ("e2el:1999", False),
        ("tpot:500", True),
        ("tpot:499", False),
        ("itl:750", True),
        ("itl:749", False),
        ("ttft:500 itl:749", False),
    ],
)
def test_goodput_counts_those_within_every_limit(objective: str, good: bool) -> None:
    """From the schedule, at 1 s: first token after 0.5 s, gaps of 0.25 and 0.75 s, end after 2."""
    one = record(scheduled=1.0, sent=1.25, arrivals=(1.5, 1.75, 2.5), ended=3.0)
    objectives = parse_objectives([objective])
    assert meets(one, objectives) is good
    assert made(one, objectives=objectives).goodput == (0.5 if good else 0.0)


def test_what_failed_is_never_good() -> None:
    failed = record(error="timeout", arrivals=())
    found = made(record(), failed, objectives=parse_objectives(["e2el:1e9"]))
    assert found.goodput == pytest.approx(1 / 0.3)
    assert made(record()).goodput is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tft:200", "no metric 'tft'; there are ttft, tpot, itl, e2el"),
        ("ttft", "'ttft' is not a metric and milliseconds"),
        ("ttft:fast", "is not a metric and milliseconds"),
        ("ttft:0", "above 0"),
        ("ttft:nan", "above 0"),
    ],
)
def test_objectives_that_are_none(text: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        parse_objectives([text])


def test_objectives_by_several_options_or_one() -> None:
    both = {"ttft": 0.2, "itl": 0.05}
    assert parse_objectives(["ttft:200", "itl:50"]) == both == parse_objectives(["ttft:200 itl:50"])


def test_how_many_ran_at_once() -> None:
    spans = [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]  # the third begins as the first ends
    records = [record(scheduled=begin, arrivals=(begin, end)) for begin, end in spans]
    assert max_running(records) == 2


def warnings(*records: Record, **options: Any) -> str:
    return " ".join(made(*records, **options).warnings)


def test_no_warning_without_reason() -> None:
    assert warnings(record()) == ""


def test_warnings_about_the_client() -> None:
    assert "used 95% of a core" in warnings(record(arrivals=(0.5, 1.0)), cpu=0.95)
    late = record(sent=0.02)
    assert "sent requests late, by 20.0 ms" in warnings(late)
    assert warnings(late, capped=True) == ""  # it waited for others


def test_warnings_about_counts() -> None:
    untold = record()
    untold.output_tokens = None
    assert "1 replies told no usage" in warnings(untold)
    assert "more events with text than tokens" in warnings(record(tokens=2))
    short = record()
    short.asked_output = 9
    assert "1 replies have another length than asked, the shortest 3 tokens" in warnings(short)
    assert "prompts have 14.0 tokens on average, not 10.0" in warnings(record(prompt=14))


def test_a_warning_about_prompts_that_the_server_knew() -> None:
    known = record()
    known.cached_tokens = 8
    assert "8 prompt tokens came from the server's prefix cache" in warnings(known, fresh=True)
    assert warnings(known, fresh=False) == ""


def test_details_count_from_the_first_schedule() -> None:
    (first, second) = details([record(scheduled=5.0, arrivals=(6.0,)), record(scheduled=7.0)])
    assert (first["scheduled"], first["arrivals"]) == (0.0, [1.0])
    assert second["scheduled"] == 2.0
