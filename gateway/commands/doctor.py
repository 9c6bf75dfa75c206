"""`sluice doctor`: shows what the examination found, as a table or as JSON."""

from __future__ import annotations

import argparse
import json

from gateway.cli import BAD_USAGE, NO, OK
from gateway.commands.configuration import configuration, report
from gateway.config_loading import ConfigError
from gateway.doctor import Finding, Status, examine, healthy

_MARKS = {Status.OK: "ok", Status.WARNING: "warning", Status.FAILED: "FAILED"}
_SUBJECT_WIDTH = 26


def run(parsed: argparse.Namespace) -> int:
    """Returns the exit code: 1 when something failed."""
    try:
        config = configuration(parsed)
    except ConfigError as error:
        if parsed.json:
            print(json.dumps({"ok": False, "problems": error.problems}))
        else:
            report(error)
        return BAD_USAGE
    findings = []
    for finding in examine(config):
        findings.append(finding)
        if not parsed.json:
            print(_shown(finding), flush=True)
    fine = healthy(findings)
    if parsed.json:
        print(json.dumps({"ok": fine, "findings": [_plain(finding) for finding in findings]}, indent=2))
    else:
        count = sum(finding.status is Status.FAILED for finding in findings)
        print("\nAll is well." if fine else f"\n{count} check{'s' if count != 1 else ''} failed.")
    return OK if fine else NO


def _shown(finding: Finding) -> str:
    text = f"{_MARKS[finding.status]:<8} {finding.subject:<{_SUBJECT_WIDTH}} {finding.found}"
    return text + (f"\n{'':<8} {'':<{_SUBJECT_WIDTH}} -> {finding.advice}" if finding.advice else "")


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "subject": finding.subject,
        "status": finding.status.value,
        "found": finding.found,
        "advice": finding.advice,
    }
