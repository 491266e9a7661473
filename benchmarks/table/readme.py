"""Where the tables stand in a README: each between two comments."""

from __future__ import annotations

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
GPU_BEGIN, GPU_END = "<!-- gpu -->", "<!-- /gpu -->"
HEADING, BEFORE = "## Speed", "\n## More\n"


class NoPlace(Exception):
    """The README has only one of the two comments, or neither them nor where they belong."""


def replaced(readme: str, table: str) -> str:
    """The README with this table; a section is added before the last where there is none yet.

    Raises: NoPlace.
    """
    if BEGIN not in readme and END not in readme and BEFORE in readme:
        before, found, after = readme.partition(BEFORE)
        readme = f"{before}\n{HEADING}\n\n{BEGIN}\n{END}\n{found}{after}"
    return between(readme, table, BEGIN, END)


def between(readme: str, table: str, first: str, last: str) -> str:
    """The README with this table between these comments. Raises: NoPlace."""
    head, begin, rest = readme.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise NoPlace(f"{first} and {last} are not both there")
    return f"{head}{first}\n{table}\n{last}{tail}"
