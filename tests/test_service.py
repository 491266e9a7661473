"""The service over an echo engine: what comes out, what is refused, and that nothing leaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from typing import Any

import pytest

from inferd.admission import Admission
from inferd.engines import echo
from inferd.engines.base import EngineSpec
from inferd.engines.local import LocalEngine
from inferd.errors import (
    BusyError,
    ContextTooLong,
    EngineError,
    InferdError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from inferd.messages import (
    Caller,
    Chunk,
    Done,
    Event,
    Generate,
    Message,
    Output,
    Prompt,
    Start,
    Submit,
    Usage,
)
from inferd.metrics import Metrics
from inferd.registry import Deployment, Registry
from inferd.service import Service
from tests.serving import TEXT, TOKENIZER, Setup, ask, collect, ids, serving, texts, usage

pytestmark = pytest.mark.anyio

LONG = ids("The quick brown fox jumps over the lazy dog. Hello world, hello there!")


async def test_one_choice_from_start_to_usage() -> None:
    prompt = ids("Hello world")
    async with serving() as setup:
        outputs = await setup.run(ask(prompt, max_tokens=len(prompt)))
    assert outputs[0] == Start(prompt, "Hello world")
    assert all(isinstance(output, Chunk) for output in outputs[1:-2])
    assert texts(outputs) == ["Hello world"]
    assert outputs[-2] == Done(0, "length")
    assert usage(outputs).prompt_tokens == len(prompt)
    assert usage(outputs).completion_tokens == len(prompt)


async def test_a_conversation_goes_through_the_template() -> None:
    async with serving() as setup:
        request = Generate(
            model="other",
            messages=(Message("user", "Hi"),),
            max_tokens=40,
            skip_special_tokens=False,
        )
        outputs = await setup.run(request)
    start = outputs[0]
    assert isinstance(start, Start)
    assert start.prompt_text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert texts(outputs)[0].startswith(start.prompt_text)


async def test_the_models_end_token_ends_and_is_not_shown() -> None:
    eos = TOKENIZER.eos_id
    assert eos is not None
    async with serving() as setup:
        outputs = await setup.run(ask((*ids("Hi"), eos)))
    assert texts(outputs) == ["Hi"]
    assert Done(0, "stop") in outputs
    assert usage(outputs).completion_tokens == len(ids("Hi")) + 1


async def test_a_stop_string_ends_the_work_in_the_engine() -> None:
    async with serving(options="delay=0.001") as setup:
        outputs = await setup.run(ask(ids("Hello world"), stop=("o wo",)))
        await setup.idle()
        stats = await setup.engine.stats()
    assert texts(outputs) == ["Hell"]
    assert Done(0, "stop", "o wo") in outputs
    assert stats.output_tokens < 100


@pytest.mark.parametrize("prompt", [LONG, LONG[:3]])
async def test_several_choices_are_told_apart(prompt: tuple[int, ...]) -> None:
    async with serving() as setup:
        outputs = await setup.run(ask(prompt, n=4, max_tokens=5))
    alone = TOKENIZER.decode((prompt * 5)[:5], skip_special_tokens=True)
    assert texts(outputs) == [alone] * 4
    assert sorted(o.index for o in outputs if isinstance(o, Done)) == [0, 1, 2, 3]
    assert sum(isinstance(o, Start) for o in outputs) == 1
    assert usage(outputs).prompt_tokens == len(prompt)
    assert usage(outputs).completion_tokens == 20


async def test_a_stop_string_ends_each_choice_by_itself() -> None:
    async with serving() as setup:
        outputs = await setup.run(ask(LONG, n=3, stop=("brown",)))
    assert texts(outputs) == ["The quick "] * 3
    assert [o for o in outputs if isinstance(o, Done)] == [
        Done(o.index, "stop", "brown") for o in outputs if isinstance(o, Done)
    ]


async def test_a_scored_prompt_comes_before_each_choices_text() -> None:
    prompt = LONG[:4]
    async with serving() as setup:
        outputs = await setup.run(ask(prompt, n=3, max_tokens=2, prompt_logprobs=1, logprobs=1))
    seen: set[int] = set()
    for output in outputs:
        if isinstance(output, Prompt):
            seen.add(output.index)
            assert len(output.logprobs) == len(prompt)
            assert output.logprobs[0] is None
            assert output.first == TOKENIZER.token_text(prompt[0])
        if isinstance(output, Chunk):
            assert output.index in seen
            assert len(output.logprobs) == len(output.token_ids)
    assert seen == {0, 1, 2}


async def test_no_tokens_asked_for_scores_the_prompt() -> None:
    async with serving() as setup:
        outputs = await setup.run(ask(LONG, max_tokens=0, prompt_logprobs=0))
    assert [type(output) for output in outputs] == [Start, Prompt, Done, Usage]
    assert outputs[2] == Done(0, "length")
    assert usage(outputs).completion_tokens == 0


async def test_submissions_carry_caller_salt_seeds_and_fresh_ids() -> None:
    async with serving() as setup:
        service = setup.service
        seen = []
        for request in (
            ask(LONG, n=3, seed=7, cache_salt="s", priority=2, max_tokens=1),
            ask(LONG, n=2, max_tokens=1),
        ):
            seen += await submitted(setup, request)
    assert len({submit.request_id for submit in seen}) == 5
    assert all(submit.request_id.startswith("r.") for submit in seen)
    assert {submit.caller for submit in seen} == {"someone"}
    assert [submit.cache_salt for submit in seen] == ["someone\0s"] * 3 + [""] * 2
    assert [submit.priority for submit in seen] == [2] * 3 + [0] * 2
    seeds = [submit.sampling.seed for submit in seen]
    assert (seeds[0], seeds[3]) == (7, 1001)
    assert len(set(seeds)) == 5
    assert service.admission.in_flight == 0


async def submitted(setup: Setup, request: Generate) -> list[Submit]:
    """What the engine gets to see of a request."""
    seen: list[Submit] = []
    with intercepted(setup, seen.append):
        await setup.run(request)
    return seen


@contextmanager
def intercepted(setup: Setup, look: Callable[[Submit], object]) -> Iterator[None]:
    """Show every submission to `look`, whose exceptions are the engine's."""
    stream = setup.engine.stream

    def through(submit: Submit) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        look(submit)
        return stream(submit)

    setup.engine.stream = through  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        setup.engine.stream = stream  # type: ignore[method-assign]


async def test_many_at_once_get_their_own_texts() -> None:
    async with serving(max_batch_size=8) as setup:
        words = [f"word {i} of many" for i in range(32)]
        requests = [ask(ids(word), max_tokens=len(ids(word))) for word in words]
        outputs = await asyncio.gather(*map(setup.run, requests))
    assert [texts(each)[0] for each in outputs] == words


# ------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": "nobody"}, NotFound),
        ({"n": 17}, InvalidRequest),
        ({"temperature": -1.0}, InvalidRequest),
        ({"prompt": ()}, InvalidRequest),
        ({"max_tokens": 5000}, ContextTooLong),
        ({"n": 9}, BusyError),
    ],
)
async def test_a_refusal_on_entering_leaves_nothing(
    fields: dict[str, Any], error: type[InferdError]
) -> None:
    async with serving(limit=8) as setup:
        service = setup.service
        async with service.stream(ask(LONG), Caller(), request_id="a"):
            with pytest.raises(error):
                await setup.run(ask(**fields))
            assert service.admission.in_flight == 1
        text = (await service.metrics.render()).decode()
        assert "inferd_request_errors_total{code=" in text


async def test_draining_refuses_and_lets_the_running_end() -> None:
    async with serving() as setup:
        admission = setup.service.admission
        async with setup.service.stream(ask(LONG), Caller(), request_id="a") as outputs:
            admission.begin_drain()
            with pytest.raises(Unavailable):
                await setup.run(ask())
            assert usage([output async for output in outputs]).completion_tokens > 1000
        assert await admission.drained(0)


async def test_a_model_that_is_not_ready_is_unavailable() -> None:
    engine = LocalEngine(echo.create, EngineSpec(engine="echo"))
    registry = Registry()
    registry.add(Deployment("echo", engine, TEXT, created=1))
    service = Service(registry, Admission(), Metrics())
    with pytest.raises(Unavailable):
        async with service.stream(ask(), Caller(), request_id="a"):
            pass
    assert service.admission.in_flight == 0


@pytest.mark.parametrize(("prompt", "given"), [(LONG[:3], 0), (LONG, 1)])
async def test_an_engine_that_goes_while_choices_are_submitted(
    prompt: tuple[int, ...], given: int
) -> None:
    """All at once: on entering. One after the other: after the first one's start."""

    def third_fails(submit: Submit) -> None:
        if submit.request_id.endswith("-2"):
            raise Unavailable

    outputs: list[Output] = []
    async with serving() as setup:
        with intercepted(setup, third_fails), pytest.raises(Unavailable):
            await collect(setup, ask(prompt, n=4), outputs)
        await setup.idle()
    assert [type(output) for output in outputs] == [Start] * given


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_without_an_end_is_an_error(n: int) -> None:
    @asynccontextmanager
    async def nothing(submit: Submit) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            for _ in ():
                yield _

        yield events()

    async with serving() as setup:
        setup.engine.stream = nothing  # type: ignore[method-assign, assignment]
        with pytest.raises(EngineError):
            await setup.run(ask(n=n))


async def test_a_full_queue_is_told_before_the_start() -> None:
    """The engine's refusal comes in place of `Start`, so that it can be a status."""
    options: dict[str, Any] = {"max_batch_size": 1, "max_queue_requests": 1}
    async with serving(options="delay=0.01", **options) as setup, aclosing(hold(setup)) as first:
        await anext(first)  # running
        waiting = asyncio.create_task(setup.run(ask(LONG, max_tokens=1)))
        while not (await setup.engine.stats()).waiting:
            pass
        with pytest.raises(BusyError) as caught:
            await setup.run(ask(LONG))
        assert caught.value.status == 429
        await first.aclose()
        assert usage(await waiting).completion_tokens == 1


async def hold(setup: Setup) -> AsyncGenerator[Output, None]:
    """A request that runs until it is closed."""
    async with setup.service.stream(ask(LONG), Caller(), request_id="h") as outputs:
        async for output in outputs:
            yield output


async def test_tokens_and_previews_need_a_permit_and_give_it_back() -> None:
    async with serving() as setup:
        service = setup.service
        tokens = await service.tokenize("other", "Hello", add_special_tokens=False)
        assert tokens == ids("Hello")
        assert await service.detokenize("echo", tokens) == "Hello"
        assert (await service.prepare(ask("Hello", add_special_tokens=False))).prompt == tokens
        with pytest.raises(InvalidRequest):
            await service.detokenize("echo", [-1])
        assert service.admission.in_flight == 0
        service.admission.begin_drain()
        for refused in (
            service.tokenize("echo", "Hello"),
            service.detokenize("echo", tokens),
            service.prepare(ask("Hello")),
        ):
            with pytest.raises(Unavailable):
                await refused
