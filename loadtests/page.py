"""The report of a load test: one HTML file with everything in it, readable without a network. Pure.

Verdict first, then pictures over time with the phases marked, then every check, every kind of request, every error.
"""

from __future__ import annotations

from html import escape
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 900, 200, 64, 26, 26
_COLOURS = {"passed": "#1d7a3a", "failed": "#b3261e", "invalid": "#8a6100"}
_PHASE_FILLS = ("#f3f6fa", "#ffffff")
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:960px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em;margin:0}h2{font-size:1.15em;margin:1.8em 0 .4em}
.verdict{color:#fff;padding:.9em 1.2em;border-radius:6px;margin:1em 0;font-size:1.1em}
table{border-collapse:collapse;width:100%}th,td{padding:.3em .6em;text-align:right;border-bottom:1px solid #e3e3e3}
th:first-child,td:first-child{text-align:left}td.bad{color:#b3261e;font-weight:600}td.ok{color:#1d7a3a}
svg{display:block;width:100%;height:auto;margin:.6em 0}small{color:#666}code{background:#f3f3f3;padding:0 .25em}
"""
_WORDS = {
    "passed": "Passed: every check held.",
    "failed": "Failed: at least one check did not hold.",
    "invalid": "Invalid: the load generator itself was the limit, or sent nothing. This says nothing about the server.",
}


def page(journal: dict[str, Any], judged: dict[str, Any], about: dict[str, Any]) -> str:
    """Returns the report; `about` has `title` and `lines` (what was run, where)."""
    verdict = judged["verdict"]
    series = journal["series"]
    phases = [(name, phase["start"], phase["end"]) for name, phase in journal["phases"].items()]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(about['title'])}: {verdict}</title>",
        f"<style>{_STYLE}</style><h1>{escape(about['title'])}</h1>",
        "".join(f"<small>{escape(line)}</small><br>" for line in about["lines"]),
        f'<div class=verdict style="background:{_COLOURS[verdict]}">{_WORDS[verdict]}</div>',
        "<h2>Over time</h2>",
        _chart("right answers/s", series, phases, {"right": "#0b5fa5"}),
        _chart("failed requests/s", series, phases, {"failed": "#b3261e"}),
        _chart("latency, ms (p50, p99 of each second)", series, phases, {"p50": "#0b5fa5", "p99": "#e07b00"}),
        _chart("users", series, phases, {"users": "#3a3a3a"}),
        "<h2>Checks</h2>",
        _table(
            ["check", "limit", "found", ""],
            [[c["what"], str(c["limit"]), str(c["found"]), "ok" if c["ok"] else "NOT OK"] for c in judged["checks"]],
        ),
        "<h2>By phase</h2>",
        _latencies(journal["phases"]),
        "<h2>By protocol and model</h2>",
        _latencies(journal["names"]),
        "<h2>Errors</h2>",
        _table(["error", "times"], [[key, f"{count:,}"] for key, count in journal["errors"].items()])
        if journal["errors"]
        else "<p>None.</p>",
        "<p><small>Users wait for an answer before they ask again (a closed loop): when the server slows down, so does "
        "the load, and the latencies of the requests that were not sent are missing. <code>sluice bench</code> and "
        "docs/benchmarks.md show what an open loop sees.</small></p></html>",
    ]
    return "\n".join(parts)


def _latencies(rows: dict[str, Any]) -> str:
    heads = ["", "right", "failed", "right/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms"]
    keys = ("per_second", "p50", "p95", "p99", "p99_9", "max")
    body = [
        [name, f"{row['right']:,}", f"{row['failed']:,}", *(f"{row[key]:,.1f}" for key in keys)]
        for name, row in rows.items()
    ]
    return _table(heads, body)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(text)}" for text in heads)
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows) + "</table>"


def _cell(text: str) -> str:
    kind = {"ok": " class=ok", "NOT OK": " class=bad"}.get(text, "")
    return f"<td{kind}>{escape(text)}"


def _chart(
    title: str, series: list[dict[str, Any]], phases: list[tuple[str, float, float]], keys: dict[str, str]
) -> str:
    end = max([1.0, *(phase[2] for phase in phases), *(second["second"] + 1 for second in series)])
    top = max([1.0, *(second[key] or 0 for second in series for key in keys)]) * 1.1
    base = _HEIGHT - _BOTTOM

    def across(second: float) -> float:
        return _LEFT + second / end * (_WIDTH - _LEFT - 8)

    def up(value: float) -> float:
        return base - value / top * (base - _TOP)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-family="system-ui,sans-serif" font-size="12">']
    for index, (name, start, stop) in enumerate(phases):
        x, width = across(start), across(min(stop, end)) - across(start)
        place = f'x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{base - _TOP}"'
        parts.append(f'<rect {place} fill="{_PHASE_FILLS[index % 2]}"/>')
        parts.append(f'<text x="{x + 4:.1f}" y="{base + 16}" fill="#666">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="16" font-weight="600" fill="#222">{escape(title)}</text>')
    for share in (0.0, 0.5, 1.0):
        value = top / 1.1 * share
        y = up(value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dcdcdc"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#666">{value:,.4g}</text>')
    for index, (key, colour) in enumerate(keys.items()):
        drawn = " ".join(
            f"{across(second['second'] + 0.5):.1f},{up(second[key]):.1f}"
            for second in series
            if second[key] is not None
        )
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(keys) > 1:
            parts.append(f'<text x="{_WIDTH - 60 * (len(keys) - index)}" y="16" fill="{colour}">{escape(key)}</text>')
    return "".join([*parts, "</svg>"])
