"""Token events to chunks: text, ids and logprobs stay together, ends are told right."""

from __future__ import annotations

from typing import Any

import pytest

from inferd.messages import Chunk, Done, Finish, Generate, Logprob, PromptScored, Tokens
from inferd.text.choice import Choice, scored_prompt
from inferd.text.model import TextModel
from inferd.text.prompt import Prepared
from inferd.text.sampling import Defaults, complete
from inferd.text.stops import StopStrings
from tests.text import samples

TOKENIZER = samples.byte_level()
EOS = TOKENIZER.token_id("</s>") or 0
MODEL = TextModel(TOKENIZER, eos_ids=frozenset({EOS}))


def choice(*, max_tokens: int = 50, **fields: Any) -> Choice:
    request = Generate(model="m", prompt="x", **fields)
    sampling = complete(
        request, Defaults(), vocab_size=TOKENIZER.vocab_size, eos_ids=MODEL.eos_ids, seed=0
    )
    prepared = Prepared((5,), "x", max_tokens, sampling, StopStrings(request.stop))
    return Choice(0, request, prepared, MODEL)


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


def feed(work: Choice, *groups: tuple[int, ...]) -> list[Chunk]:
    chunks = [work.tokens(Tokens("r", group)) for group in groups]
    return [chunk for chunk in chunks if chunk is not None]


def finish(work: Choice, reason: Any = "length", stop_token_id: int | None = None) -> Any:
    return work.finish(Finish("r", reason, stop_token_id))


def test_a_plain_choice() -> None:
    work = choice()
    hello, world = ids("Hello"), ids(" world")
    assert feed(work, hello, world) == [Chunk(0, "Hello", hello), Chunk(0, " world", world)]
    assert finish(work) == (None, Done(0, "length"))
    assert work.completion_tokens == len(hello + world)


def test_ids_come_at_once_and_text_when_it_is_whole() -> None:
    work = choice()
    smile = ids("🙂")
    assert len(smile) > 1
    chunks = feed(work, *((i,) for i in smile))
    assert [chunk.token_ids for chunk in chunks] == [(i,) for i in smile]
    assert [chunk.text for chunk in chunks] == [*[""] * (len(smile) - 1), "🙂"]


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    work = choice()
    feed(work, ids("a🙂")[:-1])
    assert finish(work) == (Chunk(0, "\ufffd", ()), Done(0, "length"))


def test_logprobs_stay_with_their_tokens() -> None:
    work = choice(logprobs=1)
    pair = ids("Hello world")[:2]
    scores = tuple(Logprob(i, -0.5, 2, ((9, -0.25),)) for i in pair)
    chunk = work.tokens(Tokens("r", pair, scores))
    assert chunk is not None
    assert [each.token.token_id for each in chunk.logprobs] == list(pair)
    first = chunk.logprobs[0]
    assert (first.logprob, first.rank) == (-0.5, 2)
    assert first.token.raw == TOKENIZER.token_bytes(pair[0])
    assert first.top == ((TOKENIZER.token_text(9), -0.25),)


def test_the_end_token_is_counted_but_is_no_text() -> None:
    work = choice()
    hello = ids("Hello")
    assert feed(work, (*hello, EOS)) == [Chunk(0, "Hello", (*hello, EOS))]
    assert finish(work, "stop", EOS) == (None, Done(0, "stop"))
    assert work.completion_tokens == len(hello) + 1


def test_a_hidden_token_alone_is_marked_special() -> None:
    (chunk,) = feed(choice(), (EOS,))
    assert chunk == Chunk(0, "", (EOS,), special=True)
    (chunk,) = feed(choice(skip_special_tokens=False, ignore_eos=True), (EOS,))
    assert chunk == Chunk(0, "</s>", (EOS,))


def test_a_callers_stop_token_is_named_and_hidden() -> None:
    (stop,) = ids("!")
    work = choice(stop_token_ids=(stop,))
    assert feed(work, ids("Hello"), (stop,))[1].text == ""
    assert finish(work, "stop", stop) == (None, Done(0, "stop", stop))


def test_a_stop_token_shows_on_request() -> None:
    (stop,) = ids("!")
    work = choice(stop_token_ids=(stop,), include_stop_str_in_output=True)
    assert feed(work, (stop,))[0].text == "!"


def test_eos_listed_by_a_caller_who_ignores_it_is_named() -> None:
    work = choice(stop_token_ids=(EOS,), ignore_eos=True)
    feed(work, (EOS,))
    assert finish(work, "stop", EOS) == (None, Done(0, "stop", EOS))


def test_a_stop_string_ends_the_choice_within_an_event() -> None:
    work = choice(stop=("world",), logprobs=0)
    group = ids("Hello world, hello")
    used = len(ids("Hello world"))
    chunk = work.tokens(Tokens("r", group, tuple(Logprob(i, -1.0, 1) for i in group)))
    assert chunk is not None
    assert (chunk.text, chunk.token_ids) == ("Hello ", group[:used])
    assert len(chunk.logprobs) == used
    assert work.done == Done(0, "stop", "world")
    assert work.completion_tokens == used


@pytest.mark.parametrize(("include", "text"), [(False, "Hello "), (True, "Hello world")])
def test_a_stop_string_across_tokens(include: bool, text: str) -> None:
    work = choice(stop=("world",), include_stop_str_in_output=include)
    chunks = feed(work, *((i,) for i in ids("Hello world")))
    assert "".join(chunk.text for chunk in chunks) == text
    assert work.ended


def test_what_was_held_for_a_stop_is_released_at_the_end() -> None:
    work = choice(stop=("world wide",))
    assert "".join(chunk.text for chunk in feed(work, ids("Hello world"))) == "Hello "
    assert finish(work) == (Chunk(0, "world", ()), Done(0, "length"))


def test_a_stop_that_the_flush_completes_counts() -> None:
    work = choice(stop=("\ufffd",))
    feed(work, ids("🙂")[:-1])
    assert finish(work) == (None, Done(0, "stop", "\ufffd"))


def test_stop_strings_wait_for_min_tokens() -> None:
    group = ids("Hello")
    work = choice(stop=("Hello",), min_tokens=len(group))
    assert not feed(work, group)[0].text.endswith("x")
    assert not work.ended
    feed(work, group)
    assert work.done == Done(0, "stop", "Hello")


def test_no_tokens_asked_for_shows_none() -> None:
    work = choice(max_tokens=0)
    assert feed(work, (EOS,)) == []
    assert finish(work, "stop", EOS) == (None, Done(0, "length"))
    assert work.completion_tokens == 0


def test_an_abort_is_told() -> None:
    assert finish(choice(), "abort") == (None, Done(0, "abort"))


def test_a_scored_prompt_names_its_first_token() -> None:
    prompt = ids("Hello world")[:3]
    event = PromptScored("r", tuple(Logprob(i, -1.0, 1, ((i, -1.0),)) for i in prompt[1:]))
    shown = scored_prompt(2, event, prompt, TOKENIZER)
    assert shown.index == 2
    assert shown.first == TOKENIZER.token_text(prompt[0])
    assert shown.logprobs[0] is None
    assert [each.token.token_id for each in shown.logprobs[1:] if each] == list(prompt[1:])
