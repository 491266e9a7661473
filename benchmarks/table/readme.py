"""Where the table stands in a README: between two comments."""

from __future__ import annotations

BEGIN, END = "<!-- benchmarks -->", "<!-- /benchmarks -->"
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
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise NoPlace(f"{BEGIN} and {END} are not both there")
    return f"{head}{BEGIN}\n{table}\n{END}{tail}"
