"""The parsers that an operator may name are those that exist."""

from __future__ import annotations

import pytest

from inferd.config.foreign import unknown_option
from inferd.config.specs import SPECS
from inferd.errors import StartError
from inferd.text.reasoning import KINDS
from inferd.text.tools.detect import SYNTAXES


@pytest.mark.parametrize(
    ("option", "known"), [("tool_call_parser", SYNTAXES), ("reasoning_parser", KINDS)]
)
def test_the_options_name_what_there_is(option: str, known: dict[str, object]) -> None:
    choices = SPECS[option].option.choices
    assert choices is not None
    assert set(choices.values()) == {"auto", "none", *known}
    assert SPECS[option].default == "auto"


def test_vllms_names_are_understood() -> None:
    assert SPECS["tool_call_parser"].parse("llama4_pythonic", "--tool-call-parser") == "pythonic"
    assert SPECS["reasoning_parser"].parse("deepseek_r1", "--reasoning-parser") == "think"


def test_an_unknown_name_is_refused_with_the_list() -> None:
    with pytest.raises(StartError, match=r"--tool-call-parser.*hermes.*mistral"):
        SPECS["tool_call_parser"].parse("xlam", "--tool-call-parser")


def test_vllms_switch_is_explained() -> None:
    error = unknown_option("enable_auto_tool_choice", "--enable-auto-tool-choice", [])
    assert "--tool-call-parser" in error.hint


def test_no_option_lets_a_models_code_run() -> None:
    error = unknown_option("trust_remote_code", "--trust-remote-code", [])
    assert "never run" in error.hint
