"""Grammars that are meant to do harm, and requests that wait while theirs is compiled."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Collection, Iterator
from concurrent.futures import wait

import pytest
from llguidance import LLMatcher

from inferd.engines.native import grammars as native_grammars
from inferd.engines.native import intake
from inferd.engines.native.constraint import PATIENCE_S, TOO_SLOW
from inferd.engines.native.core import NativeCore
from inferd.engines.native.grammars import Grammars
from inferd.engines.native.vocabulary import Unconstrainable, Vocabulary, of_checkpoint
from inferd.errors import BusyError, InvalidRequest, StartError
from inferd.messages import Event, Fail, Finish
from inferd_scheduler import SchedulerConfig
from tests.engines.native.ahead import finish
from tests.engines.native.hash_model import VOCAB, HashModel, greedy
from tests.engines.native.spelling import END, VOCABULARY, make, run, spell, submit, tokenizer_json

HARMFUL = {
    "nested repeats": r"start: /((a{1,1000}){1,1000}){1,1000}/",
    "repeats of classes": r"start: /(([a-z]{1,1000} ?){1,1000}){1,1000}/",
    "a late choice": r"start: /(.|\n)*a(.|\n){5000}/",
    "every split": "start: s\ns: s s s | s s | /./ | ",
    "optional in optional": 'start: s*\ns: t*\nt: u*\nu: /[a-z]/ | ""',
    "doubling terminals": "start: R0\n"
    + "".join(f"R{i}: R{i + 1} R{i + 1}\n" for i in range(40))
    + 'R40: "y"',
    "doubling rules": "start: r0\n"
    + "".join(f"r{i}: r{i + 1} r{i + 1}\n" for i in range(60))
    + 'r60: "y"',
    "a chain of rules": "start: r0\n"
    + "".join(f"r{i}: r{i + 1}\n" for i in range(5000))
    + 'r5000: "y"',
    "a chain of terminals": "start: R0\n"
    + "".join(f'R{i}: "x" R{i + 1}\n' for i in range(4000))
    + 'R4000: "y"',
    "parentheses": "start: " + "(" * 30_000 + '"a"' + ")" * 30_000,
    "many choices": "start: " + " | ".join(json.dumps(f"choice {i}") for i in range(20_000)),
    "many optional properties": "start: %json "
    + json.dumps({"properties": {f"p{i}": {} for i in range(3000)}, "type": "object"}),
    "intersections": "start: T\nT: "
    + " & ".join(f"/(.|\\n)*a.{{{i}}}b(.|\\n)*/" for i in range(60)),
    "endless recursion": "start: start",
    "left recursion": 'start: start start | "a"',
    "deep arrays": "start: %json " + "[" * 500,
    "a huge count": 'start: "x"{1000000000}',
}


@pytest.mark.parametrize("grammar", HARMFUL.values(), ids=HARMFUL.keys())
def test_a_harmful_grammar_harms_its_own_request_alone(grammar: str) -> None:
    core = make()
    free = submit("free", "", max_tokens=40, temperature=0.0, stop_token_ids=())
    good = submit("good", 'start: "fine"')
    got = run(core, submit("bad", grammar, max_tokens=120), free, good)
    assert got["free"].tokens == greedy([1, 2, 3], 40)
    assert spell(got["good"].tokens) == "fine"
    end = got["bad"].end
    assert isinstance(end, Finish) or (isinstance(end, Fail) and end.code == "invalid")


class Gate:
    """Lets a test say when compiling may begin."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def read(self) -> tuple[str, Collection[int]]:
        assert self.open.wait(60)
        return tokenizer_json(), {END}


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


def gated(
    gate: Gate,
    *,
    clock: Iterator[float] | None = None,
    queue: int = 100,
    grammars: Grammars | None = None,
) -> NativeCore:
    config = SchedulerConfig(
        max_batch_size=8,
        max_batch_tokens=64,
        num_blocks=60,
        block_size=4,
        max_model_len=100,
        max_queue_requests=queue,
    )
    grammars = grammars or Grammars(Vocabulary(gate.read, VOCAB))
    if clock is None:
        return NativeCore(HashModel(), config, grammars=grammars)
    return NativeCore(HashModel(), config, clock=lambda: next(clock), grammars=grammars)


def test_others_go_on_while_a_grammar_compiles(gate: Gate) -> None:
    core = gated(gate)
    assert core.submit(submit("slow", 'start: "ab"')) == []
    core.submit(submit("free", "", max_tokens=3, temperature=0.0))
    events: list[Event] = []
    while not any(isinstance(event, Finish) for event in events):
        events += core.step()
        core.check()
    assert {event.request_id for event in events} == {"free"}
    assert core.busy
    assert core.stats().waiting == 1
    gate.open.set()
    ends = [event for event in finish(core) if isinstance(event, Finish | Fail)]
    assert [event.request_id for event in ends] == ["slow"]
    assert not core.busy


def test_a_request_is_aborted_while_its_grammar_compiles(gate: Gate) -> None:
    core = gated(gate)
    core.submit(submit("a", 'start: "ab"'))
    assert core.abort("a") == [Finish("a", "abort")]
    assert core.abort("a") == []
    assert not core.busy
    core.check()
    core.submit(submit("a", 'start: "ab"'))  # its id is free again, its grammar on its way
    gate.open.set()
    assert isinstance(finish(core)[-1], Finish)


def test_an_id_is_in_use_while_its_grammar_compiles(gate: Gate) -> None:
    core = gated(gate)
    core.submit(submit("a", 'start: "ab"'))
    for grammar in ("", 'start: "c"'):
        (refused,) = core.submit(submit("a", grammar))
        assert isinstance(refused, Fail)
        assert "in use" in refused.message


def test_too_many_compiling_requests_are_refused(gate: Gate) -> None:
    core = gated(gate, queue=2)
    for name in "ab":
        assert core.submit(submit(name, 'start: "ab"')) == []
    (refused,) = core.submit(submit("c", 'start: "ab"'))
    assert isinstance(refused, Fail)
    assert refused.code == "overloaded"


def test_a_grammar_has_so_long_to_compile(gate: Gate) -> None:
    times = iter([0.0, intake.COMPILE_S + 1, intake.COMPILE_S + 1])
    core = gated(gate, clock=times)
    core.submit(submit("a", 'start: "ab"'))
    (failed,) = core.step()
    assert isinstance(failed, Fail)
    assert (failed.code, failed.param) == ("invalid", "grammar")
    assert not core.busy


def test_closing_forgets_what_compiles(gate: Gate) -> None:
    core = gated(gate)
    core.submit(submit("a", 'start: "ab"'))
    core.close()
    assert not core.busy
    core.check()


def test_a_grammar_is_compiled_once_until_so_many_have_used_it() -> None:
    grammars = Grammars(VOCABULARY)
    first = grammars.compile('start: "a"')
    shared = [grammars.compile('start: "a"') for _ in range(native_grammars.USES - 1)]
    assert all(each is first for each in shared)
    assert grammars.compile('start: "a"') is not first
    second = grammars.compile('start: "a"')
    grammars.forget('start: "a"')
    assert grammars.compile('start: "a"') is not second


def test_a_grammar_that_failed_is_tried_again_and_few_are_kept() -> None:
    grammars = Grammars(VOCABULARY)
    bad = grammars.compile("start: x")
    wait([bad])
    assert grammars.compile("start: x") is not bad
    first = grammars.compile('start: "a"')
    for i in range(native_grammars.KEPT):
        grammars.compile(f'start: "{i}"')
    assert grammars.compile('start: "a"') is not first


def test_grammars_in_use_take_so_much_memory_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_grammars, "LIVE_CHARS", 3 * native_grammars.LEAST_CHARS)
    grammars = Grammars(VOCABULARY)
    in_use = [grammars.compile(f'start: "{i}"').result() for i in range(3)]
    with pytest.raises(BusyError):
        grammars.compile('start: "another"')
    in_use.pop()
    assert grammars.compile('start: "another"').result()


def test_a_request_whose_grammar_finds_no_room_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_grammars, "LIVE_CHARS", 0)
    (refused,) = make().submit(submit("a", 'start: "a"'))
    assert isinstance(refused, Fail)
    assert refused.code == "overloaded"


def test_sequences_of_a_grammar_share_what_its_masks_may_cost() -> None:
    grammars = Grammars(VOCABULARY)
    slow = grammars.compile('start: "a"')
    compiled = slow.result()
    first, second = (compiled.begin({END}, ()) for _ in range(2))
    first.advance()
    assert not first.error
    compiled.patience.spend(PATIENCE_S + 1, 0)
    compiled.patience.spend(0, 1_000_000)  # what is spent does not come back
    second.advance()
    assert second.error == TOO_SLOW
    grammars.forget('start: "a"')
    for _ in range(native_grammars.USES + 1):
        assert grammars.compile('start: "a"') is slow
    with pytest.raises(InvalidRequest, match="too long to follow"):
        compiled.begin({END}, ())


def test_a_grammar_whose_first_mask_is_slow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_grammars, "FIRST_MASK_S", -1.0)
    with pytest.raises(InvalidRequest, match="too long to follow"):
        Grammars(VOCABULARY).compile('start: "a"').result()


def test_a_refused_grammar_is_not_kept_alive_by_its_error() -> None:
    refused = Grammars(VOCABULARY).compile("start: start").exception()
    assert isinstance(refused, InvalidRequest)
    frames = [frame for frame, _ in traceback.walk_tb(refused.__traceback__)]
    assert frames
    assert not any(isinstance(v, LLMatcher) for f in frames for v in f.f_locals.values())


def test_a_grammar_that_nobody_waits_for_is_not_compiled(gate: Gate) -> None:
    grammars = Grammars(Vocabulary(gate.read, VOCAB))
    core = gated(gate, grammars=grammars)
    for name in "abc":  # two threads are busy with the first two
        core.submit(submit(name, f'start: "{name}"'))
    core.submit(submit("c2", 'start: "c"'))
    core.abort("c")
    waiting = grammars.compile('start: "c"')
    assert not waiting.cancelled()
    core.abort("c2")
    assert waiting.cancelled()
    assert not grammars.compile('start: "c"').cancelled()


def test_an_empty_language_is_told_in_words() -> None:
    with pytest.raises(InvalidRequest, match="no answer of any length"):
        Grammars(VOCABULARY).compile("start: start").result()


def test_a_vocabulary_that_cannot_be_read_refuses_each_grammar() -> None:
    def read() -> tuple[str, Collection[int]]:
        raise StartError("bad_weights", "there is no tokenizer")

    with pytest.raises(Unconstrainable, match="no tokenizer"):
        Vocabulary(read, VOCAB).get()
    with pytest.raises(Unconstrainable, match="ends an answer"):
        Vocabulary(lambda: (tokenizer_json(), {VOCAB + 5}), VOCAB).get()


def test_a_checkpoint_says_what_ends_an_answer() -> None:
    from inferd import demo

    vocabulary = of_checkpoint(demo.path(), 4096)
    tokenizer, ends = vocabulary.get()
    assert set(tokenizer.eos_tokens) == ends
    assert tokenizer.vocab_size == 4096


def test_a_large_vocabulary_waits_until_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from inferd import demo

    monkeypatch.setattr("inferd.engines.native.vocabulary.SMALL", 0)
    vocabulary = of_checkpoint(demo.path(), 1)  # no id that ends an answer is so small: it is told
    assert caplog.messages == []
    grammars = Grammars(vocabulary)
    for _ in range(2):
        grammars.warm()
    assert len(caplog.messages) == 1
    grammars.close()
