"""Click options made from the table in `config`, and a command that lists them by group."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import click

from inferd.cli.failure import Failure
from inferd.config.foreign import unknown_option
from inferd.config.option import Spec
from inferd.config.serve import ServeConfig
from inferd.config.sources import flag, load
from inferd.config.specs import SPECS
from inferd.errors import StartError
from inferd.units import human_bytes

_SHORT = {  # vLLM's, which click would otherwise read as bundles of letters
    "-tp": "tensor_parallel_size",
    "-pp": "pipeline_parallel_size",
    "-dp": "data_parallel_size",
    "-q": "quantization",
    "-O": "optimization_level",
}
_HYPHEN = "\N{NON-BREAKING HYPHEN}"  # keeps click from breaking lines inside a flag
_METAVARS = {"text": "TEXT", "list": "TEXT", "integer": "NUMBER", "number": "NUMBER"}


class TableOption(click.Option):
    """A flag of the table; its text is parsed by `config`, as all other sources' are."""

    def __init__(self, spec: Spec) -> None:
        names = [flag(name) for name in spec.names]
        if spec.kind == "flag":
            names = [f"{name}/--no-{name[2:]}" for name in names]
        super().__init__(
            [spec.name, *names],
            default=None,
            multiple=spec.kind == "list",
            type=click.BOOL if spec.kind == "flag" else click.STRING,
            metavar=None if spec.kind == "flag" else _metavar(spec),
            help=_help(spec),
            hidden=spec.option.hidden,
        )
        self.spec = spec
        self.group = spec.option.group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The name alone, and aliases in the text: the column of names stays narrow."""
        if self.hidden:
            return None
        name = flag(self.spec.name)
        if self.spec.kind == "flag":
            off = f" / --no-{name[2:]}" if self.spec.default else ""
            return name + off, self.help or ""
        return f"{name} {self.metavar}", self.help or ""


def _metavar(spec: Spec) -> str:
    option = spec.option
    if option.choices:
        return f"[{'|'.join(dict.fromkeys(option.choices.values()))}]"
    return option.unit or ("SIZE" if option.size else _METAVARS[spec.kind])


def _help(spec: Spec) -> str:
    text = spec.option.help
    if spec.option.aliases:
        aliases = ", ".join(map(flag, spec.option.aliases))
        text += f" Also {aliases.replace('-', _HYPHEN)}."
    if spec.default in (None, (), False) or spec.name == "model":
        return text
    return f"{text} [default: {_default(spec)}]"


def _default(spec: Spec) -> str:
    """As it would be written."""
    if spec.default is True:
        return "on"
    if isinstance(spec.default, float):
        return f"{spec.default:g}"
    if spec.option.size and isinstance(spec.default, int):
        return human_bytes(spec.default).replace(".0 ", "")
    return str(spec.default)


class TableCommand(click.Command):
    """A command whose options come from the table, listed under their groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for arg in args:
            if arg in _SHORT:
                raise self._unknown(_SHORT[arg], arg)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            written = error.option_name
            plain = written.split(".")[0].lstrip("-").replace("-", "_")  # vLLM nests with dots
            raise self._unknown(_SHORT.get(written, plain), written) from None

    def _unknown(self, name: str, written: str) -> Failure:
        return Failure.of(unknown_option(name, written, self._flags()), exit_code=2)

    def _flags(self) -> list[str]:
        options = [param for param in self.params if isinstance(param, click.Option)]
        return [text for option in options if not option.hidden for text in option.opts]

    def get_help(self, ctx: click.Context) -> str:
        return super().get_help(ctx).replace(_HYPHEN, "-")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", "Other"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def normalise(name: str) -> str:
    """`--max_num_seqs` is `--max-num-seqs`."""
    return name.replace("_", "-")


def table_params(groups: Iterable[str]) -> list[click.Parameter]:
    """The positional model, the options of these groups, and `--config`."""
    model = click.Argument(["model_argument"], required=False, metavar="[MODEL]")
    chosen = [TableOption(spec) for spec in SPECS.values() if spec.option.group in set(groups)]
    config = click.Option(
        ["--config"],
        metavar="FILE",
        help="TOML file with these options. [default: ./inferd.toml, if there]",
    )
    return [model, *chosen, config]


def config_of(params: dict[str, object]) -> ServeConfig:
    """The options from the flags that click has read, and from the other sources.

    Raises: Failure: exit code 2, wrong usage.
    """
    given = {key: value for key, value in params.items() if value not in (None, ())}
    path = given.pop("config", None)
    argument = given.pop("model_argument", None)
    if argument is not None and given.setdefault("model", argument) != argument:
        raise Failure(f"two models are named, {argument} and --model {given['model']}", exit_code=2)
    try:
        return load(given, os.environ, None if path is None else Path(str(path)))
    except StartError as error:
        raise Failure.of(error, exit_code=2) from error
