# ruff: noqa: E501 (markup in strings)
"""A release as one HTML page that needs nothing else: styles and plots are inside it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from gateway.judgements import CriterionResult, EvidenceBundle, Verdict
from gateway.releases import Release, ReleaseStatus
from gateway.reports import plots, words

_STYLE = """
:root{--ink:#1c2430;--soft:#5b6675;--line:#dfe4ea;--paper:#fff;--page:#f4f6f8;--old:#8a97a8;--new:#1769c4;--good:#1a7f4b;--bad:#b3261e;--doubt:#9a6200}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaf0;--soft:#9aa6b5;--line:#333c48;--paper:#1a2029;--page:#12161c;--old:#75839a;--new:#5aa2f0;--good:#4cc38a;--bad:#f2736b;--doubt:#e0a84a}}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}h1{font-size:25px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}
.badge{display:inline-block;border-radius:4px;padding:1px 9px;color:var(--paper);font-weight:600;font-size:14px}
.good{background:var(--good)}.bad{background:var(--bad)}.doubt{background:var(--doubt)}.old{background:var(--old)}
section.card{background:var(--paper);border:1px solid var(--line);border-radius:8px;padding:16px 18px;margin:12px 0;overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}td,th{text-align:left;padding:4px 9px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.soft{color:var(--soft)}
svg{width:100%;height:auto;display:block}svg text{fill:var(--ink);font-size:12px}svg .soft{fill:var(--soft)}
code,pre{font-size:13px;overflow-wrap:anywhere;white-space:pre-wrap}
"""
_BADGES = {
    ReleaseStatus.PROMOTED: "good",
    ReleaseStatus.ROLLED_BACK: "bad",
    ReleaseStatus.PAUSED: "doubt",
}
_VERDICT_BADGES = {Verdict.ENOUGH: "good", Verdict.FAILED: "bad", Verdict.OPEN: "doubt", Verdict.NO_DATA: "old"}


def page_of(release: Release, bundles: Sequence[EvidenceBundle]) -> str:
    """Returns the page of a release with the bundles of its decisions, oldest first."""
    plan, state = release.plan, release.progress
    judged = next((bundle for bundle in reversed(bundles) if bundle.decision.criteria), None)
    badge = (
        f"<span class='badge {_BADGES.get(state.status, 'old')}'>{escape(state.status.value.replace('_', ' '))}</span>"
    )
    why = f": {escape(plan.reason)}" if plan.reason else ""
    body = [
        f"<h1>{escape(plan.id)} {badge}</h1>",
        f"<p>{escape(words.headline(release))}</p><p class=soft>Started {words.instant(plan.created_at)} by {escape(plan.actor)}{why}</p>",
        f"<p><b>{escape(state.detail)}</b></p>" if state.detail else "",
        _card("Share of the candidate over time", plots.weights_plot(bundles)),
        _card("Decisions", _decisions(bundles)),
    ]
    if judged is not None:
        seen = judged.decision.criteria
        body += [
            _card(f"Criteria at {words.instant(judged.at)}", _criteria(seen)),
            _card("What was seen, with intervals that hold at every look", plots.intervals_plot(seen)),
            _card("Evidence at each decision", plots.evidence_plot(bundles)),
            _card("Arms", plots.arms_plot(judged.arms) + _arms(judged)),
            _card("Disagreements by output and segment", _disagreements(judged.disagreements)),
            _card("Worst disagreements", _worst(judged.worst)),
        ]
    digests = next((bundle.digests for bundle in reversed(bundles) if bundle.digests), {})
    body.append(_card("Versions", _table(("version", "sha256 of the manifest"), [
        (f"{plan.model_name}/{number}", digest) for number, digest in sorted(digests.items())])))  # fmt: skip
    body.append(
        _card(
            "Configuration",
            _pre({"plan": _plain(asdict(plan)), "gateway": dict(judged.configuration) if judged else {}}),
        )
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(plan.id)}</title><style>{_STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _card(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2><section class=card>{content}</section>" if content else ""


def _decisions(bundles: Sequence[EvidenceBundle]) -> str:
    rows = [
        (
            words.instant(b.at),
            b.decision.kind.value,
            words.weight(plots.share_after(b)),
            b.decision.detail,
            b.actor or b.gateway,
        )
        for b in bundles
    ]
    return _table(("when", "decision", "share then", "why", "who"), rows)


def _criteria(criteria: Sequence[CriterionResult]) -> str:
    head = "<tr><th>criterion<th>verdict<th class=n>samples<th class=n>candidate<th class=n>stable<th class=n>seen [interval]<th class=n>tolerated<th class=n>size<th class=n>against<th class=n>for</tr>"
    rows = [
        f"<tr><td title='{escape(words.explained(line))}'>{escape(line.name)}<td><span class='badge {_VERDICT_BADGES[line.verdict]}'>{words.VERDICTS[line.verdict]}</span>"
        f"<td class=n>{line.samples:,}<td class=n>{line.candidate_bad:,}<td class=n>{line.stable_bad:,}<td class=n>{escape(words.estimate(line))}"
        f"<td class=n>{escape(words.limit(line, line.tolerated))}<td class=n>{escape(words.limit(line, line.limit))}<td class=n>{_odds(line.log_against)} / {_odds(line.fail_at)}<td class=n>{_odds(line.log_for)} / {_odds(line.enough_at)}</tr>"
        for line in criteria
    ]
    note = "<p class=soft>Candidate and stable: what speaks against the one and against the other. Size: the fault whose absence has to be shown; tolerated: beyond this it fails. Against and for: the evidence as a power of ten / what decides.</p>"
    return f"<table>{head}{''.join(rows)}</table>{note}"


def _arms(bundle: EvidenceBundle) -> str:
    rows = [
        (
            arm.name,
            str(arm.version),
            f"{arm.requests:,}",
            f"{arm.errors:,}",
            f"{arm.median / 1e6:.2f} ms",
            f"{arm.p99 / 1e6:.2f} ms",
        )
        for arm in bundle.arms
    ]
    return _table(("arm", "version", "requests", "errors", "median", "p99"), rows) if rows else ""


def _disagreements(found: Mapping[str, Any]) -> str:
    return _pre(found) if found else ""


def _worst(worst: Sequence[Mapping[str, Any]]) -> str:
    if not worst:
        return ""
    rows = [
        (str(item.get("request_id", "")), ", ".join(f"{k}: {v}" for k, v in item.items() if k != "request_id"))
        for item in worst
    ]
    return _table(("request id", "what"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(cell)}' for cell in head)}</tr>{lines}</table>"


def _pre(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=1, default=str))}</pre>"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)


def _odds(log_value: float) -> str:
    return f"{log_value / 2.302585092994046:.1f}"
