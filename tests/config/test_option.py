"""Values that people write become values of the option's type, or an error that says why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferd.config import SPECS
from inferd.errors import StartError


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("port", "8080", 8080),
        ("port", 8080, 8080),
        ("max_batch_tokens", "4_096", 4096),
        ("memory_fraction", "0.5", 0.5),
        ("memory_fraction", 1, 1.0),
        ("dtype", "bfloat16", "bfloat16"),
        ("dtype", "half", "float16"),
        ("log_json", "TRUE", True),
        ("log_json", "0", False),
        ("log_json", False, False),
        ("served_model_name", "one", ("one",)),
        ("served_model_name", ["one", "two"], ("one", "two")),
        ("kv_cache_bytes", "1048576", 1 << 20),
        ("kv_cache_bytes", "512MiB", 512 << 20),
        ("kv_cache_bytes", "512M", 512 << 20),
        ("kv_cache_bytes", "512MB", 512_000_000),
        ("kv_cache_bytes", "1.5 GiB", 3 << 29),
        ("kv_cache_bytes", "2gib", 2 << 30),
        ("kv_cache_bytes", "7b", 7),
    ],
)
def test_parses(name: str, raw: object, value: object) -> None:
    parsed = SPECS[name].parse(raw, "here")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("port", "x", "'x' is not a whole number"),
        ("port", 1.5, "1.5 is not a whole number"),
        ("port", True, "True is not a whole number"),
        ("port", "70000", "70000 is out of range; it must be at least 0 and at most 65535"),
        ("max_batch_size", "0", "at least 1"),
        ("memory_fraction", "0", "above 0 and at most 1"),
        ("memory_fraction", "nan", "not a number"),
        ("memory_fraction", "half", "not a number"),
        ("kv_cache_bytes", "12XB", "'12XB' is not a size like 512MiB or 2GB"),
        ("kv_cache_bytes", "-1", "at least 1"),
        ("log_json", "maybe", "'maybe' is neither true nor false"),
        ("policy", "fifo", "'fifo' is not one of fcfs, priority, fair"),
        ("revision", 3, "a text is needed"),
        ("api_key", "  ", "a text is needed"),
    ],
)
def test_refuses(name: str, raw: object, words: str) -> None:
    with pytest.raises(StartError) as caught:
        SPECS[name].parse(raw, "the source")
    assert caught.value.code == "bad_option"
    assert caught.value.message.startswith("the source: ")
    assert words in caught.value.message


def test_a_wrong_choice_names_the_nearest() -> None:
    with pytest.raises(StartError) as caught:
        SPECS["dtype"].parse("flat16", "--dtype")
    assert caught.value.hint == "Did you mean float16?"


@given(st.text(max_size=12), st.sampled_from(sorted(SPECS)))
def test_no_text_makes_it_fail_otherwise(raw: str, name: str) -> None:
    try:
        SPECS[name].parse(raw, "here")
    except StartError:
        pass


def test_names_and_aliases_are_unique() -> None:
    names = [name for spec in SPECS.values() for name in spec.names]
    assert len(names) == len(set(names))
