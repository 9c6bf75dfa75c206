"""The outcome as one JSON object and as text for people. Pure.

The same facts in the same words as the verdict and exit code.
"""

from __future__ import annotations

import platform
from typing import Any

from quantize.gate import PASS
from quantize.layers import spread
from quantize.pipeline import Outcome
from quantize.report_html import milliseconds
from quantize.runtimes import versions

SCHEMA_VERSION = 1


def report_of(outcome: Outcome, name: str) -> dict[str, Any]:
    """Returns everything that was found, ready for JSON."""
    prepared = outcome.prepared
    return {
        "schema_version": SCHEMA_VERSION,
        "model": name,
        "verdict": outcome.verdict,
        "reasons": outcome.reasons(),
        "passed_targets": outcome.passed,
        "forced": None if outcome.forced is None else outcome.forced.as_dict(),
        "source": {
            "path": str(prepared.loaded.path),
            "sha256": prepared.loaded.sha256,
            "bytes": prepared.loaded.bytes,
            "opset": prepared.loaded.opset,
        },
        "normalised": {"steps": prepared.steps, "largest_difference": prepared.difference},
        "data": {
            "calibration": {
                "source": prepared.calibration.name,
                "sha256": prepared.calibration.sha256,
                "rows": prepared.calibration_summary.rows,
            },
            "evaluation": {
                "source": prepared.evaluation.name,
                "sha256": prepared.evaluation.sha256,
                "rows": prepared.evaluation_summary.rows,
                "independent_rows": prepared.evaluation_summary.groups or prepared.evaluation_summary.rows,
            },
            "further": None
            if prepared.further is None
            else {
                "source": prepared.further.source.name,
                "sha256": prepared.further.source.sha256,
                "rows": prepared.further.summary.rows,
            },
            "disjoint": True,
            "input_statistics": {n: s.as_dict() for n, s in sorted(prepared.calibration_summary.inputs.items())},
        },
        "warnings": prepared.warnings,
        "targets": [result.as_dict() for result in outcome.results.values()],
        "attempts": outcome.attempts,
        "layers": {
            "spread": {key: round(value, 2) for key, value in spread(outcome.errors).items()},
            "worst_first": [error.as_dict() for error in outcome.errors],
        },
        "policy": outcome.policy.as_dict(),
        "policy_sha256": outcome.policy.sha256(),
        "environment": environment(outcome.policy.threads),
        "seconds": outcome.seconds,
    }


def environment(threads: int) -> dict[str, Any]:
    """Returns what the figures were taken on."""
    return {**versions(), "python": platform.python_version(), "processor": _processor(), "threads": threads}


def text_of(report: dict[str, Any]) -> str:
    """Returns the report for a terminal."""
    lines = [f"{report['model']}: {_headline(report)}", ""]
    data = report["data"]
    lines.append(f"calibration  {data['calibration']['rows']} rows of {data['calibration']['source']}")
    lines.append(
        f"evaluation   {data['evaluation']['rows']} rows of {data['evaluation']['source']}, "
        f"{data['evaluation']['independent_rows']} of them independent"
    )
    for step in report["normalised"]["steps"]:
        lines.append(f"normalised   {step}")
    for warning in report["warnings"]:
        lines.append(f"warning      {warning}")
    for target in report["targets"]:
        lines += ["", *_target_lines(target)]
    climbed = [a for a in report["attempts"] if a["verdict"] != PASS]
    if climbed:
        lines += ["", "attempts that did not pass:"]
        lines += [f"  {a['target']}, {a['why']}: {'; '.join(a['reasons'])}" for a in climbed]
    return "\n".join(lines)


def _headline(report: dict[str, Any]) -> str:
    if report["verdict"] == PASS:
        return f"INT8 holds ({', '.join(report['passed_targets'])})"
    if forced := report["forced"]:
        return f"refused by the gate, FORCED by {forced['by']}: {forced['reason']}\n  " + "\n  ".join(report["reasons"])
    return f"{report['verdict']}\n  " + "\n  ".join(report["reasons"])


def _target_lines(target: dict[str, Any]) -> list[str]:
    judged = "" if target["executed_on_its_engine"] else f" (not executed: judged with {target['judged_with']})"
    lines = [f"{target['target']}: {target['verdict']}{judged}, recipe: {target['recipe']['why']}"]
    lines.append(
        f"  {target['metric']}  FP32 {target['fp32']:.4f}  INT8 {target['int8']:.4f}  "
        f"loss {target['absolute_loss']:+.4f} "
        f"({target['relative_loss']:+.2%}), at most {target['upper95']:.4f} with 95 % confidence, n = "
        f"{target['independent_rows']}"
    )
    if "agreement" in target:
        lines.append(f"  agreement with FP32 {target['agreement']:.2%}")
    if found := target["further_rows"]:
        lines.append(
            f"  agreement with FP32 on {found['rows']} further rows ({found['independent_rows']} independent, "
            f"no labels) {found['agreement']:.2%}, at least {found['at_least95']:.2%} with 95 % confidence"
        )
    if target["coverage"]:
        found = target["coverage"]
        lines.append(
            f"  integer kernels: {found['multiply_add_share']:.1%} of the multiply-adds "
            f"({found['integer_operators']} of {found['operators']} operators)"
        )
    if target["batch_difference"] is not None:
        lines.append(f"  a row alone and in batches differs by {target['batch_difference']:.1e} of the range")
    for speed in target["latency"]:
        lines.append(
            f"  batch {speed['rows']}: FP32 {milliseconds(speed['fp32_ms'])}, "
            f"INT8 {milliseconds(speed['int8_ms'])}, "
            f"{speed['gain']:.2f} times as fast"
        )
    if target["tensorrt_rtx"]:
        built = target["tensorrt_rtx"]
        lines.append(f"  parsed and built by TensorRT-RTX {built['version']} for {built['compute_capability']}")
    if built := target["tensorrt"]:
        lines.append(
            f"  built and executed by TensorRT {built['version']} on a GPU of compute capability "
            f"{built['compute_capability']}, rows {' / '.join(map(str, built['profile_rows']))}"
        )
    lines += [f"  note: {note}" for note in target["notes"]]
    lines += [f"  against it: {reason}" for reason in [*target["failures"], *target["doubts"]]]
    return lines


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return "unknown"
