"""Thresholds against a journal: passed, failed, or invalid because locust itself was the limit. Pure."""

from __future__ import annotations

from typing import Any

PASSED, FAILED, INVALID = "passed", "failed", "invalid"
EXIT_CODES = {PASSED: 0, FAILED: 1, INVALID: 4}
_SUMMARY_KEYS = ("p50", "p95", "p99", "p99_9", "max", "failed")


def judge(
    journal: dict[str, Any], thresholds: dict[str, Any], events: list[dict[str, Any]], *, interrupted: bool = False
) -> dict[str, Any]:
    """Returns `verdict` and `checks` (what, limit, found, ok). Raises ValueError for thresholds that mean nothing.

    `events` are what the run did to the gateway (swap, canary); each has `what`, `ok` and `detail` and is a check too.
    A run that was `interrupted` is invalid, whatever it had shown by then.
    """
    checks = [*_overall(journal, thresholds.get("all", {}))]
    for kind in ("phases", "names"):
        for name, limits in thresholds.get(kind, {}).items():
            found = journal[kind].get(name)
            if found is not None and (found["right"] or found["failed"]):
                checks += _limits(name, found, limits)
    checks += [{"what": event["what"], "limit": "", "found": event["detail"], "ok": event["ok"]} for event in events]
    verdict = PASSED if all(check["ok"] for check in checks) else FAILED
    lag, limit = journal["locust_lag_p99_ms"], thresholds.get("generator", {}).get("lag_p99")
    if limit is not None:
        checks.append({"what": "locust's own lag, p99, ms", "limit": f"<= {limit}", "found": lag, "ok": lag <= limit})
        if lag > limit:
            verdict = INVALID
    if not sum(name["right"] + name["failed"] for name in journal["names"].values()):
        verdict = INVALID
        checks.append({"what": "requests", "limit": "> 0", "found": 0, "ok": False})
    if interrupted:
        verdict = INVALID
        checks.append({"what": "the run went to its end", "limit": "", "found": "interrupted", "ok": False})
    return {"verdict": verdict, "checks": checks}


def _overall(journal: dict[str, Any], limits: dict[str, Any]) -> list[dict[str, Any]]:
    unknown = limits.keys() - {"failed_share", "least_per_second"}
    if unknown:
        raise ValueError(f"thresholds: all.{min(unknown)} is not known")
    right = sum(second["right"] for second in journal["series"])
    failed = sum(second["failed"] for second in journal["series"])
    checks = []
    if "failed_share" in limits:
        share = failed / max(1, right + failed)
        limit = limits["failed_share"]
        checks.append(
            {
                "what": "share of failed requests",
                "limit": f"<= {limit:g}",
                "found": round(share, 5),
                "ok": share <= limit,
            }
        )
    if "least_per_second" in limits:
        rate, limit = right / max(1, len(journal["series"])), limits["least_per_second"]
        checks.append(
            {"what": "right answers/s", "limit": f">= {limit:g}", "found": round(rate, 1), "ok": rate >= limit}
        )
    return checks


def _limits(name: str, found: dict[str, Any], limits: dict[str, Any]) -> list[dict[str, Any]]:
    unknown = limits.keys() - set(_SUMMARY_KEYS)
    if unknown:
        raise ValueError(f"thresholds: {name}.{min(unknown)} is not known")
    return [
        {
            "what": f"{name}: {key}" + ("" if key == "failed" else ", ms"),
            "limit": f"<= {limit:g}",
            "found": found[key],
            "ok": found[key] <= limit,
        }
        for key, limit in limits.items()
    ]
