"""Line charts as SVG, for benchmark results; nothing to install."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 34, 46
_COLOURS = ("#0b62a4", "#c0392b", "#1e8449", "#8e44ad", "#b9770e")
_FONT = 'font-family="system-ui,sans-serif" font-size="11" fill="#333"'

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """One panel: lines by name over common axes that begin at 0."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, Points]


def draw(charts: Sequence[Chart], caption: str) -> str:
    """The panels, two in a row, over a caption."""
    rows = -(-len(charts) // 2)
    width, height = 2 * WIDTH, rows * HEIGHT + 24
    panels = (
        f'<g transform="translate({index % 2 * WIDTH},{index // 2 * HEIGHT})">{_panel(chart)}</g>'
        for index, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {_FONT}>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(panels)}'
        f'<text x="12" y="{height - 8}" fill="#777">{escape(caption)}</text></svg>\n'
    )


def ticks(most: float) -> list[float]:
    """Round numbers from 0 to at least `most`, four to eight of them."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 5
    unit: float = 10 ** math.floor(math.log10(rough))
    step = next(unit * each for each in (1, 2, 5, 10) if unit * each >= rough)
    return [step * index for index in range(math.ceil(most / step - 1e-9) + 1)]


def _panel(chart: Chart) -> str:
    drawn = {name: points for name, points in chart.lines.items() if points}
    every = [point for points in drawn.values() for point in points]
    x_ticks = ticks(max((x for x, _ in every), default=0.0))
    y_ticks = ticks(max((y for _, y in every), default=0.0))
    inner_width, inner_height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x_at(x: float) -> float:
        return _LEFT + inner_width * x / x_ticks[-1]

    def y_at(y: float) -> float:
        return _TOP + inner_height * (1 - y / y_ticks[-1])

    parts = [f'<text x="{_LEFT}" y="16" font-weight="600">{escape(chart.title)}</text>']
    for y in y_ticks:
        parts.append(_line(_LEFT, y_at(y), WIDTH - _RIGHT, y_at(y)))
        parts.append(_text(_LEFT - 6, y_at(y) + 4, f"{y:g}", "end"))
    for x in x_ticks:
        parts.append(_line(x_at(x), HEIGHT - _BOTTOM, x_at(x), HEIGHT - _BOTTOM + 4))
        parts.append(_text(x_at(x), HEIGHT - _BOTTOM + 16, f"{x:g}", "middle"))
    parts.append(_text(_LEFT + inner_width / 2, HEIGHT - 12, chart.x_label, "middle"))
    parts.append(_text(_LEFT, 29, chart.y_label, "start"))
    for number, (name, points) in enumerate(drawn.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = _path((x_at(x), y_at(y)) for x, y in points)
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if len(drawn) > 1:
            place = f'x="{WIDTH - _RIGHT}" y="{16 + 13 * number}" text-anchor="end"'
            parts.append(f'<text {place} fill="{colour}">{escape(name)}</text>')
    return "".join(parts)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
