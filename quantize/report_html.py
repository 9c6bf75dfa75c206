# ruff: noqa: E501 (markup in strings)
"""The report as one HTML page that needs nothing else: styles and plots are inside it, drawn as SVG. Pure."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--paper:#fff;--page:#f4f6f8;--old:#8a97a8;--new:#1769c4;--good:#1a7f4b;--bad:#b3261e;--doubt:#9a6200}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333c48;--paper:#1a2029;--page:#12161c;--old:#75839a;--new:#5aa2f0;--good:#4cc38a;--bad:#f2736b;--doubt:#e0a84a}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1000px;margin:0 auto;padding:28px 20px 60px}h1{font-size:25px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}
h3{font-size:15px;margin:0 0 8px}.badge{display:inline-block;border-radius:4px;padding:1px 9px;color:var(--paper);font-weight:600;font-size:14px}
.pass{background:var(--good)}.fail,.refused{background:var(--bad)}.doubt{background:var(--doubt)}
section.card{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:16px 18px;margin:12px 0}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:14px}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.soft{color:var(--soft)}
.scroll{overflow-x:auto}li.bad{color:var(--bad)}li.doubt-text{color:var(--doubt)}svg{width:100%;height:auto;display:block}svg text{fill:var(--ink);font-size:12px}
svg .soft{fill:var(--soft)}code{font-size:13px;overflow-wrap:anywhere}
"""
_MOST_LAYERS = 60
_NOT_MEASURED = "<p class=soft>Not measured: the accuracy was refused before.</p>"


def html_of(report: dict[str, Any]) -> str:
    """Returns the page."""
    data, source = report["data"], report["source"]
    body = [
        f"<h1>{escape(report['model'])}: INT8 {_badge(report['verdict'])}</h1>",
        f"<p class=soft>From <code>{escape(source['path'])}</code> ({source['bytes'] / 1e6:.2f} MB, opset {source['opset']}, "
        f"sha256 {source['sha256'][:16]}…). Calibrated with {data['calibration']['rows']} rows, judged on "
        f"{data['evaluation']['rows']} rows ({data['evaluation']['independent_rows']} independent); no row is in both.</p>",
        _forced(report["forced"]),
        _reasons(report["reasons"], "bad"),
        _reasons(report["warnings"], "soft"),
    ]
    body.append("<h2>Accuracy against FP32</h2><section class=card>" + _accuracy(report["targets"]) + "</section>")
    body.append("<h2>Latency by batch size</h2>" + _latencies(report))
    body.append("<h2>Integer kernels</h2>" + _coverage(report["targets"]))
    body.append("<h2>Error of each operator</h2><section class=card>" + _layers(report["layers"]) + "</section>")
    body.append("<h2>Targets</h2>" + "".join(_target(target) for target in report["targets"]))
    body.append("<h2>Attempts</h2><section class='card scroll'>" + _attempts(report["attempts"]) + "</section>")
    body.append(
        "<h2>Inputs at calibration</h2><section class='card scroll'>" + _inputs(data["input_statistics"]) + "</section>"
    )
    body.append(
        "<h2>Made with</h2><section class='card scroll'>"
        + _pairs(report["environment"] | {what: f"{s:.0f} s" for what, s in report["seconds"].items()})
        + "</section>"
    )
    title = escape(f"{report['model']} INT8 report")
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def milliseconds(value: float) -> str:
    """Returns three digits, and no exponent."""
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _badge(verdict: str) -> str:
    kind = {"pass": "pass", "insufficient evidence": "doubt"}.get(verdict, "fail")
    return f"<span class='badge {kind}'>{escape(verdict)}</span>"


def _forced(forced: dict[str, Any] | None) -> str:
    if forced is None:
        return ""
    return (
        "<section class=card><strong>The gate refused this model and was overruled.</strong> By "
        f"{escape(forced['by'])}: {escape(forced['reason'])}</section>"
    )


def _reasons(reasons: list[str], kind: str) -> str:
    return f"<ul>{''.join(f'<li class={kind}>{escape(r)}</li>' for r in reasons)}</ul>" if reasons else ""


def _bar(y: float, start: float, length: float, colour: str, label: str, height: float = 14) -> str:
    return (
        f"<rect x='{start:.1f}' y='{y:.1f}' width='{max(length, 1):.1f}' height='{height}' fill='var(--{colour})' rx='2'/>"
        f"<text x='{start + max(length, 1) + 6:.1f}' y='{y + height - 3:.1f}'>{escape(label)}</text>"
    )


def _accuracy(targets: list[dict[str, Any]]) -> str:
    """Loss of each target with its one-sided 95 % bound, on a scale that holds the limit."""
    parts = []
    rows = [(t["target"], t["absolute_loss"], t["upper95"], t) for t in targets]
    most = max([0.012, *(abs(x) * 1.15 for _, loss, upper, _ in rows for x in (loss, upper) if x == x)])
    zero, wide = 380.0, 280.0
    for index, (name, loss, upper, target) in enumerate(rows):
        y = 24 + index * 44
        loss = 0.0 if loss != loss else loss
        upper = loss if upper != upper else upper
        at, bound = zero + loss / most * wide, zero + upper / most * wide
        parts.append(f"<text x='0' y='{y + 5}'>{escape(name)}</text>")
        parts.append(
            f"<text class=soft x='0' y='{y + 20}'>{target['metric']} {target['fp32']:.4f} → {target['int8']:.4f}</text>"
        )
        parts.append(f"<line x1='{at:.1f}' x2='{bound:.1f}' y1='{y}' y2='{y}' stroke='var(--new)' stroke-width='3'/>")
        parts.append(
            f"<line x1='{bound:.1f}' x2='{bound:.1f}' y1='{y - 6}' y2='{y + 6}' stroke='var(--new)' stroke-width='2'/>"
        )
        parts.append(f"<circle cx='{at:.1f}' cy='{y}' r='5' fill='var(--new)'/>")
        parts.append(
            f"<text x='{max(at, bound) + 9:.1f}' y='{y + 18}'>{loss * 100:+.2f} pp, ≤ {upper * 100:.2f} (95 %)</text>"
        )
    height = 34 + len(rows) * 44
    limit = zero + 0.01 / most * wide
    axis = (
        f"<line x1='{zero}' x2='{zero}' y1='6' y2='{height - 18}' stroke='var(--line)'/>"
        f"<text class=soft x='{zero}' y='{height - 4}' text-anchor='middle'>same as FP32</text>"
        f"<line x1='{limit:.1f}' x2='{limit:.1f}' y1='6' y2='{height - 18}' stroke='var(--bad)' stroke-dasharray='4 3'/>"
        f"<text class=soft x='{limit:.1f}' y='{height - 4}' text-anchor='middle'>1 pp</text>"
    )
    return f"<svg viewBox='0 0 860 {height}' role=img aria-label='Accuracy loss of each target'>{axis}{''.join(parts)}</svg>"


def _latencies(report: dict[str, Any]) -> str:
    raced = [_latency(target) for target in report["targets"] if target["latency"]]
    if not raced:
        return _NOT_MEASURED
    return (
        f"<div class=grid>{''.join(raced)}</div><p class=soft>One row of bars a batch size; FP32 and INT8 took turns in one process "
        f"on {escape(report['environment']['processor'])}, {report['environment']['threads']} thread(s).</p>"
    )


def _latency(target: dict[str, Any]) -> str:
    parts, y = [], 4.0
    for speed in target["latency"]:
        most = max(speed["fp32_ms"], speed["int8_ms"])
        parts.append(f"<text class=soft x='0' y='{y + 20:.0f}'>batch {speed['rows']}</text>")
        parts.append(_bar(y, 76, speed["fp32_ms"] / most * 190, "old", f"FP32 {milliseconds(speed['fp32_ms'])}"))
        label = f"INT8 {milliseconds(speed['int8_ms'])} ({speed['gain']:.2f}×)"
        parts.append(_bar(y + 16, 76, speed["int8_ms"] / most * 190, "new", label))
        y += 44
    return (
        f"<section class=card><h3>{escape(target['target'])}</h3><svg viewBox='0 0 420 {y:.0f}' role=img "
        f"aria-label='Latency on {escape(target['target'])}'>{''.join(parts)}</svg></section>"
    )


def _coverage(targets: list[dict[str, Any]]) -> str:
    if not any(target["coverage"] for target in targets):
        return _NOT_MEASURED
    parts, y = [], 4.0
    for target in targets:
        found = target["coverage"]
        if not found:
            continue
        share = found["multiply_add_share"]
        parts.append(f"<text x='0' y='{y + 12:.0f}'>{escape(target['target'])}</text>")
        parts.append(f"<rect x='110' y='{y}' width='500' height='14' fill='var(--line)' rx='2'/>")
        parts.append(f"<rect x='110' y='{y}' width='{share * 500:.1f}' height='14' fill='var(--new)' rx='2'/>")
        how = "kernels" if target["executed_on_its_engine"] else "graph"
        text = f"{share:.1%} of multiply-adds, {found['integer_operators']}/{found['operators']} ({how})"
        parts.append(f"<text x='620' y='{y + 12:.0f}'>{text}</text>")
        y += 26
    drawn = f"<svg viewBox='0 0 900 {y:.0f}' role=img aria-label='Coverage'>{''.join(parts)}</svg>"
    return f"<section class=card>{drawn}</section>"


def _layers(layers: dict[str, Any]) -> str:
    worst = layers["worst_first"][:_MOST_LAYERS]
    parts, y = [], 4.0
    most = max([error["sqnr_db"] for error in worst] or [1.0])
    for error in worst:
        name = error["node"] if len(error["node"]) <= 46 else "…" + error["node"][-45:]
        parts.append(f"<text x='300' y='{y + 10:.0f}' text-anchor='end'>{escape(name)}</text>")
        parts.append(_bar(y, 310, max(error["sqnr_db"], 0) / most * 440, "new", f"{error['sqnr_db']:.1f} dB", 11))
        y += 16
    more = len(layers["worst_first"]) - len(worst)
    note = f"<p class=soft>{more} more are better.</p>" if more > 0 else ""
    return (
        "<p class=soft>Signal to quantization noise of each operator by itself, on FP32 inputs; the worst first (short bars lose most).</p>"
        f"<svg viewBox='0 0 860 {max(y, 20):.0f}' role=img aria-label='Error of each operator'>{''.join(parts)}</svg>{note}"
    )


def _target(target: dict[str, Any]) -> str:
    facts: dict[str, Any] = {
        "engine": target["judged_with"] + ("" if target["executed_on_its_engine"] else " (emulation)"),
        "recipe": target["recipe"]["why"],
        "ranges": target["recipe"]["method"],
        "size": f"{target['bytes'] / 1e6:.2f} MB",
        "sha256": target["sha256"],
        "agreement": f"{target['agreement']:.2%}" if "agreement" in target else "",
        "on further rows": _further(target["further_rows"]),
        "alone or in batches": _invariance(target["batch_difference"]),
        "kept float": "; ".join(f"{node}: {why}" for node, why in list(target["kept_float"].items())[:12]),
        "TensorRT-RTX": _built(target["tensorrt_rtx"]),
        "TensorRT": _built(target["tensorrt"]),
    }
    reasons = (
        _reasons(target["failures"], "bad")
        + _reasons(target["doubts"], "doubt-text")
        + _reasons(target["notes"], "soft")
    )
    shown = _pairs({key: value for key, value in facts.items() if value not in ("", None)})
    return f"<section class='card scroll'><h3>{escape(target['target'])} {_badge(target['verdict'])}</h3>{reasons}{shown}</section>"


def _further(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    return (
        f"agrees with FP32 on {found['agreement']:.2%} of {found['rows']} rows without labels "
        f"({found['independent_rows']} independent), at least {found['at_least95']:.2%} (95 %)"
    )


def _invariance(difference: float | None) -> str:
    return "" if difference is None else f"a row's answer differs by {difference:.1e} of the range"


def _built(built: dict[str, Any] | None) -> str:
    if not built:
        return ""
    return f"parsed and built by {built['version']} for {built['compute_capability']}, {built['layers']} layers"


def _attempts(attempts: list[dict[str, Any]]) -> str:
    head = "<tr><th>target<th>attempt<th>verdict<th class=n>loss<th>reasons</tr>"
    rows = [
        f"<tr><td>{escape(a['target'])}<td>{escape(a['why'])}<td>{_badge(a['verdict'])}"
        f"<td class=n>{a.get('absolute_loss', float('nan')) * 100:.2f} pp<td>{escape('; '.join(a['reasons']))}</tr>"
        for a in attempts
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _inputs(inputs: dict[str, dict[str, Any]]) -> str:
    keys = ("min", "max", "mean", "std", "zero_share")
    head = "<tr><th>input" + "".join(f"<th class=n>{key.replace('_', ' ')}" for key in keys) + "</tr>"
    rows = [
        f"<tr><td>{escape(n)}" + "".join(f"<td class=n>{s[k]:g}" for k in keys) + "</tr>" for n, s in inputs.items()
    ]
    return f"<table>{head}{''.join(rows)}</table>"


def _pairs(values: dict[str, Any]) -> str:
    rows = [f"<tr><th>{escape(str(key))}<td>{escape(str(value))}</tr>" for key, value in values.items()]
    return f"<table>{''.join(rows)}</table>"
