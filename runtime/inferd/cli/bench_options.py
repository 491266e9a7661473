"""Options that several benchmarks share, and how their results and errors reach the user."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from inferd.cli.failure import Failure

PERCENTILES = "50,90,95,99"


class Option(click.Option):
    """An option of a benchmark itself, listed apart from those of what is measured."""

    group = "Benchmark"


class Number(click.FloatRange):
    """A number above 0; `inf` where that makes sense."""

    name = "number"

    def __init__(self, *, infinite: bool = False) -> None:
        super().__init__(min=0, min_open=True)
        self._infinite = infinite

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number) or (math.isinf(number) and not self._infinite):
            self.fail(f"{value!r} is not a number above 0.", param, ctx)
        return number


class Percentiles(click.ParamType[tuple[float, ...]]):
    """`50,99` is (50.0, 99.0)."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            percents = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            percents = ()
        if not percents or not all(0 <= percent <= 100 for percent in percents):
            self.fail(f"{value!r} is not a list of percents, as {PERCENTILES}.", param, ctx)
        return percents


def count(flag: str, text: str, *, least: int = 1, default: int | None = None) -> Option:
    """An option that is a whole number."""
    name = flag.split("/")[0][2:].replace("-", "_")
    return Option(
        [*flag.split("/"), name],
        type=click.IntRange(min=least),
        metavar="NUMBER",
        default=default,
        show_default=default is not None,
        help=text,
    )


def lengths(input_len: int, output_len: int) -> list[click.Parameter]:
    """How long prompts and replies are; vLLM's names for it, too."""
    return [
        count("--input-len/--random-input-len", "Prompt tokens.", default=input_len),
        count("--output-len/--random-output-len", "Output tokens.", default=output_len),
        Option(
            ["--range-ratio", "--random-range-ratio", "range_ratio"],
            type=click.FloatRange(0, 1, max_open=True),
            metavar="RATIO",
            default=0.0,
            show_default=True,
            help="Draw each length from LENGTH * (1 ± this).",
        ),
        count(
            "--prefix-len/--random-prefix-len",
            "Tokens before those, the same in all prompts.",
            least=0,
            default=0,
        ),
    ]


def percentiles() -> Option:
    return Option(
        ["--metric-percentiles", "--percentiles", "percentiles"],
        type=Percentiles(),
        default=PERCENTILES,
        show_default=True,
        metavar="LIST",
        help="Which percentiles to report.",
    )


def in_a_folder(
    context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    """Refused before anything is measured."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {path.parent}")
    return path


def results() -> list[click.Parameter]:
    """Where to write them."""
    return [
        Option(
            ["--output", "--output-json", "output"],
            type=click.Path(dir_okay=False, writable=True, path_type=Path),
            metavar="FILE",
            callback=in_a_folder,
            help="Write the results, the options, the machine and the versions there, as JSON.",
        ),
        Option(
            ["--save-result"],
            is_flag=True,
            help="Write them to a file here, named by benchmark and time.",
        ),
    ]


def result_path(params: dict[str, Any], benchmark: str) -> Path | None:
    """Where the results go, if anywhere; takes these options out of `params`."""
    output: Path | None = params.pop("output")
    save = params.pop("save_result")
    if output is None and save:
        return Path(f"inferd-bench-{benchmark}-{datetime.now():%Y%m%d-%H%M%S}.json")
    return output


@contextmanager
def failures() -> Iterator[None]:
    """Words a benchmark's errors for the terminal."""
    from inferd.bench.errors import BenchError

    try:
        yield
    except BenchError as error:
        raise Failure(str(error)) from error


def wrote(path: Path) -> None:
    click.echo(f"Wrote {path}", err=True)


def checked(check: Callable[[], Any]) -> Any:
    """What `check` returns; a `BenchError` of it is wrong usage."""
    from inferd.bench.errors import BenchError

    try:
        return check()
    except BenchError as error:
        raise Failure(str(error), exit_code=2) from error
