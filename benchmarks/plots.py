"""Small line and bar charts as SVG, without a plotting library. Pure: numbers in, text out.

Every chart has titled axes, a legend when there are several lines, and colours that differ in lightness too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#0b5fa5", "#e07b00", "#3a3a3a", "#8f2d8c")
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 16, 40, 46
_TICKS = 5
Points = Sequence[tuple[float, float]]


def lines(
    title: str,
    across: str,
    up: str,
    series: Mapping[str, Points],
    *,
    log_x: bool = False,
    reference: float | None = None,
) -> str:
    """Returns a line chart; `reference` draws a dashed level. Series without points are left out."""
    drawn = {name: points for name, points in series.items() if points}
    xs = [x for points in drawn.values() for x, _ in points] or [0.0, 1.0]
    ys = [y for points in drawn.values() for _, y in points] or [0.0, 1.0]
    low, high = (min(xs), max(xs)) if log_x else (min(0.0, *xs), max(xs))
    top = max([*ys, reference or 0.0]) * 1.08 or 1.0

    def place_x(x: float) -> float:
        if log_x:
            span = math.log(high / low) or 1.0
            return _LEFT + (math.log(max(x, low) / low) / span) * (_WIDTH - _LEFT - _RIGHT)
        return _LEFT + (x - low) / ((high - low) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = _frame(title, across, up, top, place_y)
    marks = _log_ticks(low, high) if log_x else _ticks(high)
    parts += [_text(place_x(mark), _HEIGHT - _BOTTOM + 16, _short(mark), "middle") for mark in marks if mark >= low]
    if reference is not None:
        level = place_y(reference)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}" stroke="#999" '
            'stroke-dasharray="5 4"/>'
        )
    for index, (name, points) in enumerate(drawn.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 20:
            parts += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        if len(drawn) > 1:
            parts += _legend(index, name, colour)
    return _svg(parts)


def bars(title: str, up: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Returns a bar chart: for each group (below the axis) one bar for each name."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    top = max((value for group in groups.values() for value in group.values()), default=1.0) * 1.12 or 1.0

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - y / top * (_HEIGHT - _TOP - _BOTTOM)

    parts = _frame(title, "", up, top, place_y)
    slot = (_WIDTH - _LEFT - _RIGHT) / max(1, len(groups))
    width = min(48.0, slot * 0.8 / max(1, len(names)))
    for position, (label, group) in enumerate(groups.items()):
        middle = _LEFT + (position + 0.5) * slot
        parts.append(_text(middle, _HEIGHT - _BOTTOM + 16, label, "middle"))
        for index, name in enumerate(names):
            if name not in group:
                continue
            x, y = middle + (index - len(names) / 2) * width, place_y(group[name])
            height = _HEIGHT - _BOTTOM - y
            colour = COLOURS[index % len(COLOURS)]
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{height:.1f}" fill="{colour}"/>'
            )
            parts.append(_text(x + width / 2 - 1, y - 4, _short(group[name]), "middle", 10))
    if len(names) > 1:
        for index, name in enumerate(names):
            parts += _legend(index, name, COLOURS[index % len(COLOURS)])
    return _svg(parts)


def _frame(title: str, across: str, up: str, top: float, place_y: object) -> list[str]:
    assert callable(place_y)
    parts = [_text(_LEFT, 16, title, "start", 14, "bold")]
    for mark in _ticks(top):
        y = place_y(mark)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(_text(_LEFT - 6, y + 4, _short(mark), "end"))
    base = _HEIGHT - _BOTTOM
    parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}" stroke="#666"/>')
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, across, "middle"))
    middle = (_TOP + base) / 2
    turned = f'transform="rotate(-90 14 {middle:.0f})"'
    parts.append(
        f'<text x="14" y="{middle:.0f}" font-size="12" text-anchor="middle" fill="#333" {turned}>{escape(up)}</text>'
    )
    return parts


def _legend(index: int, name: str, colour: str) -> list[str]:
    x = _LEFT + 10 + index * 150
    return [
        f'<rect x="{x}" y="24" width="12" height="10" fill="{colour}"/>',
        _text(x + 17, 33, name, "start"),
    ]


def _text(x: float, y: float, text: str, anchor: str, size: int = 12, weight: str = "normal") -> str:
    style = f'font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" fill="#333"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _svg(parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        'font-family="system-ui, sans-serif" role="img">'
    )
    return "\n".join([head, f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>', *parts, "</svg>", ""])


def _ticks(top: float) -> list[float]:
    if top <= 0:
        return [0.0]
    raw = top / _TICKS
    unit = 10 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw)
    return [step * index for index in range(int(top / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten; with their doubles and fives where few powers are in sight."""
    first, last = math.floor(math.log10(max(low, 1e-9))), math.ceil(math.log10(max(high, 1e-9)))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    marks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [mark for mark in marks if low * 0.99 <= mark <= high * 1.01]


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    if value >= 1000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}"
