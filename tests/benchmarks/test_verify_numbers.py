"""What `verify_numbers` is asked for must be there."""

from __future__ import annotations

import sys

import pytest

from benchmarks.verify_numbers.__main__ import main


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("--device=cuda:99", r"argument --device: device 'cuda:99' does not exist"),
        ("--device=bogus", r"argument --device: device 'bogus' is not one"),
        ("nosuchcase", r"there is no case nosuchcase"),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(
    argument: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["verify_numbers", argument])
    with pytest.raises(SystemExit) as refused:
        main()
    assert refused.value.code == 2
    assert why in capsys.readouterr().err
