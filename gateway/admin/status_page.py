"""The status page: one HTML document without scripts or outside resources, that reloads itself.

Everything that is not markup is escaped; nothing is shown that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import gateway
from gateway.admin.view import GatewayView, ReplicaView, VersionView
from gateway.telemetry.rates import NO_RATE, Rate
from gateway.versions import InputDrift, ModelVersion, VersionState

REFRESH_SECONDS = 2
SOME_DRIFT, LARGE_DRIFT = 0.1, 0.25
"""Of the index above chance: docs/drift.md."""
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.3rem} h2{font-size:1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%} th,td{padding:.35rem .6rem;text-align:left;vertical-align:top}
th{font-weight:600;border-bottom:1px solid #8888} td{border-bottom:1px solid #8883}
.n{text-align:right;font-variant-numeric:tabular-nums}
.good{color:#1a7f37} .busy{color:#9a6700} .bad{color:#cf222e} .note{color:#cf222e} .dim{opacity:.65}
@media (prefers-color-scheme:dark){.good{color:#3fb950}.busy{color:#d29922}.bad,.note{color:#f85149}}
"""
_CLASSES = {
    VersionState.READY: "good",
    VersionState.FAILED: "bad",
    VersionState.UNLOADED: "dim",
}


def render(view: GatewayView, rates: Mapping[ModelVersion, Rate], loop_lag_ms: float) -> str:
    """Returns the page."""
    word, css = ("shutting down", "busy") if view.closing else ("ready", "good") if view.ready else ("not ready", "bad")
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        f"<meta http-equiv=refresh content={REFRESH_SECONDS}><title>Sluice: {word}</title>",
        f"<style>{_STYLE}</style></head>",
        f"<body><h1>Sluice {escape(gateway.__version__)} <span class={css}>{word}</span></h1>",
        f"<p>{view.requests_in_flight} requests in flight, route table generation {view.generation}, ",
        f"event loop lag {loop_lag_ms:.1f} ms</p>",
        *(f"<p class=note>{escape(note)}</p>" for note in view.notes),
        "<h2>Models</h2>",
        _models(view.versions, rates) if view.versions else "<p>No model is known yet.</p>",
        _inputs(view.versions),
        "<h2>Triton</h2>",
        _replicas(view.replicas) if view.replicas else "<p>No Triton is connected yet.</p>",
        '<p class=dim>Rates are averages of the last ten seconds. <a href="/metrics">metrics</a> · '
        '<a href="/v1/models">models</a> · <a href="/v1/config">configuration</a></p></body></html>',
    ]
    return "".join(parts)


def _models(versions: tuple[VersionView, ...], rates: Mapping[ModelVersion, Rate]) -> str:
    heads = (
        ("Model", ""), ("Version", "n"), ("State", ""), ("Traffic", "n"), ("Requests/s", "n"), ("Failures/s", "n"),
        ("Rows/batch", "n"), ("Waiting rows", "n"), ("In flight", "n"), ("Detail", ""),
    )  # fmt: skip
    head = "".join(f'<th class="{css}">{name}</th>' for name, css in heads)
    return f"<table><tr>{head}</tr>{''.join(_row(v, rates.get(v.version, NO_RATE)) for v in versions)}</table>"


def _row(view: VersionView, rate: Rate) -> str:
    detail = view.detail or (f"not batched: {view.unbatchable_reason}" if view.unbatchable_reason else "")
    cells = (
        ("", escape(view.version.model_name)),
        ("n", str(view.version.number)),
        (_CLASSES.get(view.state, "busy"), view.state.value),
        ("n", f"{view.weight / 100:g} %"),
        ("n", f"{rate.requests:.1f}"),
        ("n bad" if rate.failures else "n", f"{rate.failures:.1f}"),
        ("n", f"{rate.rows_per_batch:.1f}" if rate.rows_per_batch else "–"),
        ("n", str(view.queued_rows)),
        ("n", str(view.requests_in_flight)),
        ("", escape(detail)),
    )
    return "<tr>" + "".join(f'<td class="{css}">{text}</td>' for css, text in cells) + "</tr>"


def _inputs(versions: tuple[VersionView, ...]) -> str:
    """Returns how far inputs are from the calibration's; nothing where no version has statistics of them."""
    rows = "".join(_input(view.version, drift) for view in versions for drift in view.inputs)
    if not rows:
        return ""
    head = (
        "<tr><th>Model</th><th class=n>Version</th><th>Input</th><th class=n>Drift (PSI)</th><th class=n>By chance</th>"
        "<th class=n>Out of range</th><th class=n>Not finite</th><th class=n>Rows in the window</th></tr>"
    )
    return f"<h2>Inputs against their calibration</h2><table>{head}{rows}</table>"


def _input(version: ModelVersion, drift: InputDrift) -> str:
    index, css, elements = "–", "n", max(drift.elements, 1)
    if drift.psi is not None:
        excess = drift.psi - drift.by_chance
        index = f"{drift.psi:.3f}"
        css = "n bad" if excess > LARGE_DRIFT else "n busy" if excess > SOME_DRIFT else "n good"
    cells = (
        ("", escape(version.model_name)),
        ("n", str(version.number)),
        ("", escape(drift.name) + (f" [{drift.column}]" if drift.column is not None else "")),
        (css, index),
        ("n", f"{drift.by_chance:.3f}" if drift.psi is not None else "–"),
        ("n", f"{drift.out_of_range / elements:.2%}"),
        ("n bad" if drift.not_finite else "n", f"{drift.not_finite / elements:.2%}"),
        ("n", str(drift.window_rows)),
    )
    return "<tr>" + "".join(f'<td class="{css}">{text}</td>' for css, text in cells) + "</tr>"


def _replicas(replicas: tuple[ReplicaView, ...]) -> str:
    rows = "".join(
        f"<tr><td>{escape(replica.name)}</td>"
        + (f"<td class={'good' if replica.available else 'bad'}>{'connected' if replica.available else 'away'}</td>")
        + f"<td class=n>{len(replica.versions)}</td><td class=n>{replica.outstanding_rows}</td></tr>"
        for replica in replicas
    )
    head = (
        "<tr><th>Replica</th><th>Connection</th><th class=n>Versions ready</th><th class=n>Rows outstanding</th></tr>"
    )
    return f"<table>{head}{rows}</table>"
