"""Encoding, special tokens, the bytes of each token, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inferd.errors import StartError
from inferd.text.tokenizer import Tokenizer, load_tokenizer
from tests.text import samples

KINDS = [samples.byte_level, samples.metaspace, samples.byte_fallback, samples.word_piece]


@pytest.mark.parametrize("make", KINDS[:3])
@pytest.mark.parametrize("text", ["Hello world", "The dog  jumps", "a"])
def test_decoding_undoes_encoding(make: Callable[[], Tokenizer], text: str) -> None:
    tokenizer = make()
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_the_post_processor_adds_bos_only_on_request() -> None:
    tokenizer = samples.byte_level()
    plain = tokenizer.encode("Hello", add_special_tokens=False)
    bos = tokenizer.token_id(tokenizer.special_tokens["bos_token"])
    assert tokenizer.encode("Hello", add_special_tokens=True) == [bos, *plain]


def test_special_tokens_in_a_text_are_parsed() -> None:
    tokenizer = samples.byte_level()
    ids = tokenizer.encode("<|im_start|>Hello</s>", add_special_tokens=False)
    assert ids[0] == tokenizer.token_id("<|im_start|>")
    assert ids[-1] == tokenizer.eos_id


def test_bytes_of_byte_level_tokens_rebuild_the_text() -> None:
    tokenizer = samples.byte_level()
    text = "schön 🙂\n\t日本"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()


def test_bytes_of_added_tokens_are_their_own() -> None:
    tokenizer = samples.byte_level()
    for token in ("<|im_end|>", "<tool>"):
        token_id = tokenizer.token_id(token)
        assert token_id is not None
        assert tokenizer.token_bytes(token_id) == token.encode()


def test_bytes_of_sentencepiece_tokens() -> None:
    tokenizer = samples.byte_fallback()
    ids = tokenizer.encode("Hello ü", add_special_tokens=False)
    raw = [tokenizer.token_bytes(i) for i in ids]
    assert b"".join(raw) == " Hello ü".encode()
    assert raw[-2:] == [b"\xc3", b"\xbc"]  # <0xC3> <0xBC>
    assert tokenizer.token_text(ids[-1]).text == "\ufffd"


def test_bytes_where_tokens_do_not_concatenate() -> None:
    tokenizer = samples.word_piece()
    assert tokenizer.recipe is None
    for token_id in range(tokenizer.vocab_size):
        alone = tokenizer.decode([token_id], skip_special_tokens=False)
        assert tokenizer.token_bytes(token_id) == alone.encode()


def test_an_id_outside_the_vocabulary_has_no_bytes() -> None:
    tokenizer = samples.byte_level()
    assert tokenizer.token_bytes(tokenizer.vocab_size + 7) == b""
    assert tokenizer.token_text(10**9).text == ""


def test_the_config_marks_tokens_as_special() -> None:
    base = samples.byte_level()
    tool = base.token_id("<tool>")
    assert tool not in base.special_ids
    for config in (
        {"additional_special_tokens": ["<tool>"]},
        {"extra_special_tokens": {"tool_token": "<tool>"}},
        {"pad_token": {"content": "<tool>"}},
    ):
        tokenizer = samples.rebuilt(base, config)
        assert tool in tokenizer.special_ids
        assert tokenizer.vocab_size == base.vocab_size


def test_a_named_token_that_does_not_exist_changes_nothing() -> None:
    tokenizer = samples.rebuilt(samples.byte_level(), {"eos_token": "<never>", "bos_token": None})
    assert tokenizer.eos_id is None
    assert "bos_token" not in tokenizer.special_tokens
    assert tokenizer.vocab_size == samples.byte_level().vocab_size


def test_truncation_and_padding_of_the_file_are_ignored() -> None:
    backend = samples.byte_level().backend
    written = json.loads(backend.to_str())
    written["truncation"] = {
        "direction": "Right",
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    tokenizer = Tokenizer(json.dumps(written).encode(), {})
    assert len(tokenizer.encode("Hello world, hello", add_special_tokens=False)) > 2


@pytest.mark.parametrize("make", KINDS)
def test_the_lower_bound_of_tokens_holds(make: Callable[[], Tokenizer]) -> None:
    tokenizer = make()
    for text in samples.CORPUS:
        least = tokenizer.least_tokens(text)
        assert 1 <= least <= len(tokenizer.encode(text, add_special_tokens=False))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        samples.byte_level().encode("a\ud800", add_special_tokens=False)


def test_a_broken_file_is_a_start_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(StartError) as caught:
        load_tokenizer(tmp_path, {})
    assert caught.value.code == "bad_weights"


def test_no_tokenizer_at_all_is_a_start_error(tmp_path: Path) -> None:
    with pytest.raises(StartError) as caught:
        load_tokenizer(tmp_path, {})
    assert caught.value.code == "unsupported"
    assert "tokenizer.json" in caught.value.message


def test_older_formats_are_converted(tmp_path: Path) -> None:
    """GPT-2's vocab.json and merges.txt, without a tokenizer.json."""
    model = json.loads(samples.byte_level().backend.to_str())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + merges + "\n")
    config = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>", "bos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"unk_token": "</s>"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    tokenizer = load_tokenizer(tmp_path, config)
    expected = samples.byte_level().encode("Hello world", add_special_tokens=False)
    assert tokenizer.encode("Hello world", add_special_tokens=False) == expected
