# ruff: noqa: E501 (markup in strings)
"""What a search found, as a document and as one HTML page that needs nothing else (plots are SVG inside it). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--paper:#fff;--page:#f4f6f8;--dot:#1769c4;--best:#1a7f4b;--bad:#b3261e;--old:#a9b4c1}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333c48;--paper:#1a2029;--page:#12161c;--dot:#5aa2f0;--best:#4cc38a;--bad:#f2736b;--old:#566273}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:28px 20px 60px}h1{font-size:25px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}h3{font-size:15px;margin:0 0 8px}
section{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:16px 18px;margin:12px 0}.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px}
.grid section{margin:0}table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line)}
th{color:var(--soft);font-weight:500}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.soft{color:var(--soft)}.best{color:var(--best)}.bad{color:var(--bad)}
.scroll{overflow-x:auto}svg{width:100%;height:auto;display:block}svg text{fill:var(--soft);font-size:12px}code{font-size:13px;overflow-wrap:anywhere}
.dot{fill:var(--dot)}.dot.pruned{fill:var(--old)}.dot.best{fill:var(--best)}.curve{fill:none;stroke:var(--dot);stroke-width:1.4;opacity:.75}.curve.pruned{stroke:var(--old)}
.curve.best{stroke:var(--best);stroke-width:2.4;opacity:1}.front{fill:none;stroke:var(--best);stroke-width:1.6}.axis{stroke:var(--line)}
"""
_WIDE, _HIGH, _LEFT, _BOTTOM = 640.0, 250.0, 84.0, 30.0
Points = Sequence[tuple[float, float]]


def html_of(result: Mapping[str, Any]) -> str:
    """Returns the page."""
    best, trials = result["best"], result["trials"]
    complete = [t for t in trials if t["state"] == "complete"]
    head = [f"<h1>{escape(result['name'])}: search</h1>", f"<p class=soft>{_summary(result)}</p>"]
    if best is None:
        head.append("<section class=bad>No trial ran to its end.</section>")
    else:
        head.append(
            f"<section><h3 class=best>Best: trial {best['number']}, {escape(result['metric'])} {_number(best['value'])}</h3>{_parameters(best['parameters'])}{_winner(result)}</section>"
        )
    body = [*head, "<h2>History</h2><section>", _history(trials, result["direction"], best), "</section>"]
    if any(len(t["reports"]) > 1 for t in trials):
        body += ["<h2>Learning curves</h2><section>", _curves(trials, best), "</section>"]
    if result["importance"]:
        body += ["<h2>Importance of the parameters</h2><section>", _importance(result["importance"]),
                 "<p class=soft>PED-ANOVA: how much of what tells good trials from the rest each parameter explains.</p></section>"]  # fmt: skip
    if complete:
        body += [
            "<h2>Each parameter</h2><div class=grid>",
            *(_slice(name, trials, best) for name in result["parameters"]),
            "</div>",
        ]
    body += ["<h2>Trials</h2><section class=scroll>", _table(trials, result["parameters"], best), "</section>"]
    title = escape(f"{result['name']}: search")
    return f"<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'><title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"


def _summary(result: Mapping[str, Any]) -> str:
    counts = result["counts"]
    return escape(f"{counts['complete']} trials ran to their end, {counts['pruned']} were ended early, {counts['failed']} failed; sampler {result['sampler']}, "
                  f"pruner {result['pruner']}, seed {result['seed']}; {result['direction']} {result['metric']}.")  # fmt: skip


def _winner(result: Mapping[str, Any]) -> str:
    winner = result["winner"]
    if winner is None:
        return ""
    value = f", {escape(result['metric'])} {_number(winner['value'])}" if winner["value"] is not None else ""
    return f"<p>Trained once more as job {winner['job']}: {escape(winner['state'])}{value}.<br><code>{escape(winner['output_folder'])}</code></p>"


def _parameters(values: Mapping[str, Any]) -> str:
    return (
        "<p>"
        + ", ".join(f"<code>{escape(name)} = {escape(_number(value))}</code>" for name, value in values.items())
        + "</p>"
    )


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------- plots


class _Frame:
    """Axes and a scale for a set of points."""

    def __init__(self, points: Points, *, logarithmic: bool = False, x_from_zero: bool = False) -> None:
        xs, ys = [math.log10(x) if logarithmic else x for x, _ in points], sorted(y for _, y in points)
        # One diverged trial must not flatten the rest: what lies beyond is drawn at the edge.
        low, high = ys[0], ys[-1]
        if len(ys) >= 8:
            quarter, most = ys[len(ys) // 4], ys[3 * len(ys) // 4]
            low, high = max(low, quarter - 3 * (most - quarter)), min(high, most + 3 * (most - quarter))
        self._log = logarithmic
        self._x = (0.0 if x_from_zero else min(xs), max(xs))
        self._y = (low, high) if high > low else (low - 0.5 * (abs(low) or 1), low + 0.5 * (abs(low) or 1))

    def at(self, x: float, y: float) -> tuple[float, float]:
        x = math.log10(x) if self._log else x
        span = (self._x[1] - self._x[0]) or 1.0
        part = min(max((y - self._y[0]) / (self._y[1] - self._y[0]), 0.0), 1.0)
        return _LEFT + (x - self._x[0]) / span * (_WIDE - _LEFT - 16), _HIGH - _BOTTOM - part * (_HIGH - _BOTTOM - 16)

    def svg(self, inside: list[str], below: str) -> str:
        lines = []
        for part in (0.0, 0.5, 1.0):
            value = self._y[0] + part * (self._y[1] - self._y[0])
            y = _HIGH - _BOTTOM - part * (_HIGH - _BOTTOM - 16)
            lines.append(
                f"<line class=axis x1='{_LEFT}' x2='{_WIDE - 16}' y1='{y:.1f}' y2='{y:.1f}'/><text x='{_LEFT - 8}' y='{y + 4:.1f}' text-anchor=end>{value:.4g}</text>"
            )
            x = _LEFT + part * (_WIDE - _LEFT - 16)
            there = self._x[0] + part * (self._x[1] - self._x[0])
            lines.append(
                f"<text x='{x:.1f}' y='{_HIGH - 12}' text-anchor=middle>{10**there if self._log else there:.4g}</text>"
            )
        lines.append(f"<text x='{(_LEFT + _WIDE) / 2:.0f}' y='{_HIGH + 4}' text-anchor=middle>{escape(below)}</text>")
        return f"<svg viewBox='0 0 {_WIDE:.0f} {_HIGH + 10:.0f}' role=img>{''.join(lines)}{''.join(inside)}</svg>"

    def line(self, points: Points, kind: str) -> str:
        return f"<polyline class='{kind}' points='{' '.join(f'{x:.1f},{y:.1f}' for x, y in (self.at(*p) for p in points))}'/>"

    def dot(self, point: tuple[float, float], kind: str, title: str) -> str:
        x, y = self.at(*point)
        return f"<circle class='dot {kind}' cx='{x:.1f}' cy='{y:.1f}' r='{5 if kind == 'best' else 3.5}'><title>{escape(title)}</title></circle>"


def _kind(trial: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    if best is not None and trial["number"] == best["number"]:
        return "best"
    return "pruned" if trial["state"] == "pruned" else ""


def _shown(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [t for t in trials if t["value"] is not None]


def _history(trials: Sequence[Mapping[str, Any]], direction: str, best: Mapping[str, Any] | None) -> str:
    shown = _shown(trials)
    if not shown:
        return "<p class=soft>Nothing to show.</p>"
    frame = _Frame([(t["number"], t["value"]) for t in shown], x_from_zero=True)
    front, found = [], None
    for trial in shown:
        if trial["state"] == "complete":
            better = max if direction == "maximize" else min
            found = trial["value"] if found is None else better(found, trial["value"])
        if found is not None:
            front.append((trial["number"], found))
    dots = [
        frame.dot(
            (t["number"], t["value"]), _kind(t, best), f"trial {t['number']}: {_number(t['value'])} ({t['state']})"
        )
        for t in shown
    ]
    return frame.svg([frame.line(front, "front"), *dots], "trial (grey: ended early; line: best so far)")


def _curves(trials: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> str:
    curves = sorted(
        ((t, sorted(t["reports"].items())) for t in trials if t["reports"]), key=lambda c: _kind(c[0], best) == "best"
    )
    frame = _Frame([point for _, points in curves for point in points])
    return frame.svg(
        [frame.line(points, f"curve {_kind(trial, best)}") for trial, points in curves],
        "step (green: the best trial; grey: ended early)",
    )


def _importance(importance: Mapping[str, float]) -> str:
    rows = []
    for index, (name, value) in enumerate(sorted(importance.items(), key=lambda item: -item[1])):
        y = 8 + 26 * index
        rows.append(
            f"<text x='150' y='{y + 12}' text-anchor=end>{escape(name)}</text><rect class=dot x='158' y='{y}' width='{max(value * 380, 1):.1f}' height='16' rx='2'/><text x='{166 + max(value * 380, 1):.1f}' y='{y + 12}'>{value:.0%}</text>"
        )
    return f"<svg viewBox='0 0 {_WIDE:.0f} {12 + 26 * len(importance)}' role=img>{''.join(rows)}</svg>"


def _slice(name: str, trials: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> str:
    shown = [t for t in _shown(trials) if name in t["parameters"]]
    values = [t["parameters"][name] for t in shown]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    words = [] if numbers else sorted({str(v) for v in values})
    xs = [float(v) for v in values] if numbers else [float(words.index(str(v))) for v in values]
    logarithmic = numbers and min(xs) > 0 and max(xs) / min(xs) > 30
    frame = _Frame([(x, t["value"]) for x, t in zip(xs, shown, strict=True)], logarithmic=logarithmic)
    dots = [
        frame.dot((x, t["value"]), _kind(t, best), f"{name} {_number(t['parameters'][name])}: {_number(t['value'])}")
        for x, t in zip(xs, shown, strict=True)
    ]
    below = name if numbers else ", ".join(f"{i}: {word}" for i, word in enumerate(words))
    return f"<section><h3>{escape(name)}</h3>{frame.svg(dots, below)}</section>"


def _table(trials: Sequence[Mapping[str, Any]], names: Sequence[str], best: Mapping[str, Any] | None) -> str:
    head = "".join(f"<th class=n>{escape(name)}</th>" for name in names)
    rows = []
    for trial in trials:
        cells = "".join(f"<td class=n>{escape(_number(trial['parameters'].get(name, '')))}</td>" for name in names)
        value = "" if trial["value"] is None else _number(trial["value"])
        rows.append(
            f"<tr class={_kind(trial, best) or 'plain'}><td>{trial['number']}</td><td>{escape(trial['state'])}</td><td class=n>{value}</td>{cells}<td>{trial['job'] or ''}</td><td class=soft>{escape(trial['detail'])}</td></tr>"
        )
    return f"<table><tr><th>trial</th><th>state</th><th class=n>value</th>{head}<th>job</th><th></th></tr>{''.join(rows)}</table>"
