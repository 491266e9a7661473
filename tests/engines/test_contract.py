"""What every engine promises, whatever its core and wherever it runs."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

from inferd.engines.base import Engine, is_terminal
from inferd.errors import StartError, Unavailable
from inferd.messages import Event, Fail, Finish, Logprob, PromptScored, Sampling, Submit, Tokens
from tests.engines.engines_under_test import (
    GREEDY,
    MAX_LEN,
    VOCAB,
    Make,
    Start,
    begun,
    collect,
    generate,
    tokens,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


async def test_ends_with_exactly_one_terminal_event(engine: Engine) -> None:
    events = await collect(engine, Submit("a", (1, 2, 3), 7, GREEDY))
    assert [is_terminal(event) for event in events] == [False] * (len(events) - 1) + [True]
    finish = events[-1]
    assert isinstance(finish, Finish)
    assert finish.reason == "length"
    assert len(tokens(events)) == 7
    assert {event.request_id for event in events} == {"a"}
    assert finish.decode_s >= 0
    begun = [event.begun for event in events if isinstance(event, Tokens)]
    assert begun[0] is not None
    assert min(begun[0].queued_s, begun[0].prefill_s) >= 0
    assert set(begun[1:]) == {None}


async def test_info_tells_what_runs(engine: Engine, kind: tuple[str, str]) -> None:
    info = engine.info
    assert info.engine == kind[0]
    assert (info.vocab_size, info.max_model_len, info.max_batch_size) == (VOCAB, MAX_LEN, 8)
    assert info.num_blocks > 0
    assert info.load_s > 0


async def test_concurrent_streams_yield_what_each_yields_alone(engine: Engine) -> None:
    submits = [Submit(f"r{i}", tuple(range(1, 3 + i % 7)), 5 + i % 9, GREEDY) for i in range(24)]
    together: dict[str, list[int]] = {}

    async def one(submit: Submit) -> None:
        together[submit.request_id] = await generate(engine, submit)

    async with anyio.create_task_group() as group:
        for submit in submits:
            group.start_soon(one, submit)
    for submit in submits[::5]:
        assert await generate(engine, submit) == together[submit.request_id]
    assert [len(together[s.request_id]) for s in submits] == [s.max_tokens for s in submits]


async def test_a_stop_token_ends_the_sequence_and_is_among_its_tokens(engine: Engine) -> None:
    free = await generate(engine, Submit("free", (5, 9, 11, 2), 8, GREEDY))
    stop = free[3]
    sampling = Sampling(temperature=0.0, stop_token_ids=(stop,))
    events = await collect(engine, Submit("stopped", (5, 9, 11, 2), 8, sampling))
    assert tokens(events) == free[: free.index(stop) + 1]
    finish = events[-1]
    assert isinstance(finish, Finish)
    assert (finish.reason, finish.stop_token_id) == ("stop", stop)


async def test_min_tokens_masks_stop_tokens(engine: Engine) -> None:
    first = (await generate(engine, Submit("free", (5, 9, 11, 2), 8, GREEDY)))[0]
    sampling = Sampling(temperature=0.0, stop_token_ids=(first,), min_tokens=4)
    made = await generate(engine, Submit("masked", (5, 9, 11, 2), 8, sampling))
    assert len(made) >= 5
    assert first not in made[:4]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_resumes_exactly_where_it_was_interrupted(engine: Engine, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, seed=2**64 - 1, repetition_penalty=1.2)
    whole = await generate(engine, Submit("whole", (3, 1, 4, 1, 5), 12, sampling))
    for cut in (1, 7, 11):
        given = tuple(whole[:cut])
        rest = await generate(engine, Submit(f"{cut}", (3, 1, 4, 1, 5), 12, sampling, given))
        assert rest == whole[cut:]


async def test_logprobs_come_one_per_token(engine: Engine) -> None:
    sampling = Sampling(temperature=0.0, logprobs=3, prompt_logprobs=2)
    prompt = tuple(range(1, 41))
    events = await collect(engine, Submit("a", prompt, 6, sampling))
    scored = events[0]
    assert isinstance(scored, PromptScored)
    assert [each.token_id for each in scored.logprobs] == list(prompt[1:])
    assert all(len(each.top) == 2 for each in scored.logprobs)
    assert sum(isinstance(event, PromptScored) for event in events) == 1
    for event in events[1:-1]:
        assert isinstance(event, Tokens)
        assert [each.token_id for each in event.logprobs] == list(event.token_ids)
        for each in event.logprobs:
            assert each.logprob < 0
            assert each.top[each.rank - 1] == (each.token_id, each.logprob)
            values = [value for _, value in each.top]
            assert values == sorted(values, reverse=True)
            assert len(each.top) == 3


async def test_zero_logprobs_gives_the_chosen_token_only(engine: Engine) -> None:
    events = await collect(engine, Submit("a", (1, 2), 2, Sampling(temperature=0.0, logprobs=0)))
    tops = [each.top for e in events if isinstance(e, Tokens) for each in e.logprobs]
    assert tops == [(), ()]


async def test_chosen_tokens_are_scored_beside_the_likeliest(engine: Engine) -> None:
    """In their order, with the values that they have among the likeliest."""
    sampling = Sampling(temperature=0.0, logprobs=20, prompt_logprobs=20)
    plain = scores(await collect(engine, Submit("a", (1, 2, 3), 2, sampling)))
    chosen = tuple(token for token, _ in plain[-1].top[12:4:-3])
    sampling = msgspec.structs.replace(sampling, logprob_token_ids=chosen)
    extended = scores(await collect(engine, Submit("b", (1, 2, 3), 2, sampling)))
    assert len(plain) == len(extended) == 4
    for without, with_extra in zip(plain, extended, strict=True):
        assert without.extra == ()
        assert [token for token, _ in with_extra.extra] == list(chosen)
        likeliest = dict(without.top)
        known = [t for t in chosen if t in likeliest]
        values = dict(with_extra.extra)
        assert [values[t] for t in known] == pytest.approx([likeliest[t] for t in known])
        assert msgspec.structs.replace(with_extra, extra=()) == without
    assert known == list(chosen)


def scores(events: list[Event]) -> list[Logprob]:
    return [one for e in events if isinstance(e, PromptScored | Tokens) for one in e.logprobs]


@pytest.mark.parametrize(
    ("code", "submit"),
    [
        ("invalid", Submit("a", (), 4, GREEDY)),
        ("invalid", Submit("a", (1, VOCAB), 4, GREEDY)),
        ("invalid", Submit("a", (1, -1), 4, GREEDY)),
        ("invalid", Submit("a", (1,), 4, GREEDY, output=(VOCAB,))),
        ("invalid", Submit("a", (1,), 0, GREEDY)),
        ("too_long", Submit("a", (1,) * (MAX_LEN + 1), 4, GREEDY)),
    ],
    ids=["empty", "id too large", "id negative", "bad output", "no tokens asked", "too long"],
)
async def test_refuses_and_goes_on(engine: Engine, code: str, submit: Submit) -> None:
    events = await collect(engine, submit)
    assert len(events) == 1
    refusal = events[0]
    assert isinstance(refusal, Fail)
    assert refusal.code == code
    assert refusal.message
    assert len(await generate(engine, Submit("a", (1, 2), 3, GREEDY))) == 3


async def test_a_full_queue_refuses(start: Start) -> None:
    engine = await start(max_batch_size=1, max_queue_requests=2)
    ends: list[Event] = []

    async def one(name: str) -> None:
        ends.append((await collect(engine, Submit(name, (1, 2), 40, GREEDY)))[-1])

    async with (
        begun(engine, Submit("first", (1, 2), 100, GREEDY)),
        anyio.create_task_group() as group,
    ):
        for i in range(6):
            group.start_soon(one, f"r{i}")
    refused = [end for end in ends if isinstance(end, Fail)]
    assert [end.code for end in refused] == ["overloaded"] * 4
    assert sum(isinstance(end, Finish) for end in ends) == 2


async def test_a_burst_that_the_batch_can_hold_is_not_refused(start: Start) -> None:
    engine = await start(max_batch_size=8, max_queue_requests=1)
    ends: list[Event] = []

    async def one(name: str) -> None:
        ends.append((await collect(engine, Submit(name, (1, 2), 4, GREEDY)))[-1])

    async with anyio.create_task_group() as group:
        for i in range(8):
            group.start_soon(one, f"r{i}")
    assert [type(end) for end in ends] == [Finish] * 8


async def test_an_id_in_use_is_refused_without_harm_to_its_owner(engine: Engine) -> None:
    async with begun(engine, Submit("same", (1, 2), 60, GREEDY)) as events:
        [refusal] = await collect(engine, Submit("same", (1, 2), 5, GREEDY))
        assert isinstance(refusal, Fail)
        assert refusal.code == "invalid"
        rest = [event async for event in events]
    assert len(tokens(rest)) == 59
    assert isinstance(rest[-1], Finish)


async def test_leaving_a_stream_frees_what_it_held(start: Start) -> None:
    engine = await start(max_batch_size=1)
    async with (
        begun(engine, Submit("runs", (1, 2), 100, GREEDY)),
        engine.stream(Submit("waits", (1, 2), 100, GREEDY)),
    ):
        assert (await engine.stats()).running == 1
    stats = first = await engine.stats()
    while stats.running or stats.waiting or stats.kv_blocks_used:
        stats = await engine.stats()
    assert stats.steps - first.steps <= 2
    assert stats.output_tokens < 100
    assert await generate(engine, Submit("waits", (1, 2), 3, GREEDY))


async def test_a_reader_that_does_not_read_blocks_nobody(engine: Engine) -> None:
    async with engine.stream(Submit("slow", (1, 2), 50, GREEDY)) as slow:
        for i in range(5):
            assert len(await generate(engine, Submit(f"{i}", (1, 2), 40, GREEDY))) == 40
        assert len(tokens([event async for event in slow])) == 50


async def test_iterating_past_the_end_stops(engine: Engine) -> None:
    async with engine.stream(Submit("a", (1, 2), 2, GREEDY)) as events:
        assert [event async for event in events]
        assert [event async for event in events] == []


async def test_stats_count_tokens(engine: Engine) -> None:
    before = await engine.stats()
    await generate(engine, Submit("a", (1, 2, 3), 9, GREEDY))
    after = await engine.stats()
    assert after.prompt_tokens - before.prompt_tokens == 3
    assert after.output_tokens - before.output_tokens == 9
    assert after.steps - before.steps >= 9
    assert (after.running, after.waiting, after.kv_blocks_used) == (0, 0, 0)
    assert after.kv_blocks_total == engine.info.num_blocks


async def test_closing_ends_every_stream(start: Start) -> None:
    engine = await start(max_batch_size=1)
    async with (
        begun(engine, Submit("runs", (1, 2), 120, GREEDY)) as running,
        engine.stream(Submit("waits", (1, 2), 120, GREEDY)) as waiting,
    ):
        await engine.close()
        for events in (running, waiting):
            last = [event async for event in events][-1]
            assert isinstance(last, Fail)
            assert last.code == "dead"
    assert engine.state == "closed"
    with pytest.raises(Unavailable):
        async with engine.stream(Submit("late", (1, 2), 3, GREEDY)):
            pass


async def test_is_not_available_before_it_started(make: Make) -> None:
    engine = make()
    assert engine.state == "starting"
    with pytest.raises(Unavailable):
        async with engine.stream(Submit("early", (1, 2), 3, GREEDY)):
            pass
    with pytest.raises(Unavailable):
        _ = engine.info
    await engine.close()


async def test_a_failed_start_says_why_and_takes_nothing(
    make: Make, kind: tuple[str, str], tmp_path: Path
) -> None:
    engine = make(model="echo:start=fail" if kind[0] == "echo" else str(tmp_path / "nothing"))
    with pytest.raises(StartError) as caught:
        await engine.start(lambda progress: None)
    error = caught.value
    assert error.message
    if kind[0] == "echo":
        assert (error.code, error.hint) == ("out_of_memory", "Use a smaller model")
        assert (error.bytes_needed, error.bytes_free) == (2 << 30, 1 << 30)
        assert str(error) == "start=fail"
    else:
        assert error.code == "not_found"
    assert engine.state == "failed"
    with pytest.raises(Unavailable):
        async with engine.stream(Submit("a", (1, 2), 3, GREEDY)):
            pass
    await engine.close()
