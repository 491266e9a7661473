"""Prefix keys and the index: what may be shared, and a state machine against a plain model."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inferd_scheduler.prefix import PrefixIndex, root_key

NAMES = st.text(st.characters(), max_size=3)  # any, lone surrogates too: JSON can carry them


def index() -> PrefixIndex:
    return PrefixIndex(num_blocks=4, block_size=2)


def test_a_key_depends_on_the_tokens_and_on_all_that_came_before() -> None:
    prefixes = index()
    root = root_key("", "")
    parents = [root, prefixes.key(root, [1, 2]), prefixes.key(root, [2, 1]), root_key("a", "")]
    keys = {prefixes.key(parent, tokens) for parent in parents for tokens in ([1, 2], [1, 3])}
    assert len(keys) == 8


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_roots_are_equal_only_for_equal_adapter_and_salt(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert (root_key(*one) == root_key(*other)) == (one == other)


def test_the_first_block_of_a_key_stays_the_one_that_is_found() -> None:
    prefixes = index()
    prefixes.add(b"key", 0)
    prefixes.add(b"key", 1)
    assert prefixes.find(b"key") == 0
    assert 1 not in prefixes
    prefixes.forget(1)  # not in the index: nothing happens
    assert len(prefixes) == 1


class PrefixMachine(RuleBasedStateMachine):
    """The model is one dict from key to block."""

    def __init__(self) -> None:
        super().__init__()
        self.prefixes = index()
        self.model: dict[bytes, int] = {}

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d", b"e"]), block=st.integers(0, 3))
    def add(self, key: bytes, block: int) -> None:
        if block in self.model.values():
            self.forget(block)
        self.prefixes.add(key, block)
        self.model.setdefault(key, block)

    @rule(block=st.integers(0, 3))
    def forget(self, block: int) -> None:
        self.prefixes.forget(block)
        self.model = {key: held for key, held in self.model.items() if held != block}

    @invariant()
    def agrees(self) -> None:
        self.prefixes.check()
        assert len(self.prefixes) == len(self.model)
        assert [self.prefixes.find(k) for k in (b"a", b"b", b"c", b"d", b"e")] == [
            self.model.get(k) for k in (b"a", b"b", b"c", b"d", b"e")
        ]
        assert [block in self.prefixes for block in range(4)] == [
            block in self.model.values() for block in range(4)
        ]


TestPrefixMachine = PrefixMachine.TestCase
TestPrefixMachine.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
