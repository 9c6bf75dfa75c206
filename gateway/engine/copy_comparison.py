"""Compares the answers that two versions gave to the same requests, many at once, and counts what differs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from gateway.core.comparing import Floats, RowErrors, compare_rows
from gateway.core.outcome_matching import Label
from gateway.engine.answer_looks import look_at
from gateway.engine.evidence import Collector
from gateway.engine.shadow import Copy
from gateway.messages import InferResponse
from gateway.releases import OutputRule
from gateway.tensors import TensorSpec

MOST_OUTPUTS = 8
_MOST_INPUT_BYTES = 4096
_INFINITE = 1e300


def compare_copies(collector: Collector, copies: Sequence[Copy]) -> None:
    """Takes copies that both versions answered, or that the candidate failed to answer."""
    collector.changes += 1
    collector.shadow_samples += len(copies)
    if collector.copies_only:
        collector.step_samples += len(copies)
    collector.disagreement.requests += len(copies)
    groups: dict[tuple[str, tuple[object, ...]], list[Copy]] = {}
    for copy in copies:
        if copy.answer is None:
            _failed(collector, copy)
            continue
        segment = collector.disagreement.segment(copy.segment)
        cut = 1 if copy.batchable else 0
        shapes = tuple((spec.name, spec.datatype, spec.shape[cut:]) for spec in copy.stable.head.outputs)
        groups.setdefault((segment, shapes), []).append(copy)
    for (segment, _), members in groups.items():
        _compare(collector, segment, members)


def _failed(collector: Collector, copy: Copy) -> None:
    found = collector.disagreement
    found.different += 1
    found.failed += 1
    code = copy.error.code.value if copy.error is not None else ""
    found.bad(_INFINITE, _about(collector, copy) | {"failed": code})


def _compare(collector: Collector, segment: str, copies: list[Copy]) -> None:
    """Compares requests whose outputs have equal names, types and shapes (but for axis 0)."""
    plan, found = collector.plan, collector.disagreement
    rules = {rule.output: rule for rule in plan.outputs}
    rows = [copy.rows for copy in copies]
    starts = [0, *np.cumsum(rows)[:-1].tolist()]
    different = np.zeros(len(copies), np.bool_)
    error = np.zeros(len(copies))
    for index, spec in enumerate(copies[0].stable.head.outputs[:MOST_OUTPUTS]):
        errors = _errors(spec, index, rules.get(spec.name), copies, sum(rows))
        off = np.logical_or.reduceat(~errors.same, starts)
        if not rules or spec.name in rules:
            different |= off
            error = np.maximum(error, _size(errors, starts))
        for name in {"", segment}:
            found.tally(name, spec.name).add(errors, len(copies), int(np.count_nonzero(off)))
    _note_labels(collector, copies)
    for copy, bad, size in zip(copies, different.tolist(), error.tolist(), strict=True):
        if bad:
            found.different += 1
            found.bad(size, _about(collector, copy))


def _errors(spec: TensorSpec, index: int, rule: OutputRule | None, copies: list[Copy], rows: int) -> RowErrors:
    """Compares one output; a candidate's output of that name with another type or shape is different throughout."""
    stable = [copy.stable.data[index] for copy in copies]
    candidate = []
    for copy in copies:
        assert copy.answer is not None
        head = copy.answer.head
        at = next((at for at, other in enumerate(head.outputs) if other.name == spec.name), None)
        fits = at is not None and head.outputs[at].datatype is spec.datatype
        candidate.append(copy.answer.data[at] if fits and at is not None else b"")
    return compare_rows(spec, rule, stable, candidate, rows)


def _size(errors: RowErrors, starts: list[int]) -> Floats:
    """Returns one number a request by which the worst are found: the error in proportion, or "infinite"."""
    apart = np.where(errors.same, 0.0, np.minimum(errors.relative_mean, _INFINITE))
    apart = np.where(errors.candidate_nan & ~errors.stable_nan, _INFINITE, apart)
    sizes: Floats = np.maximum.reduceat(apart, starts)
    return sizes


def _note_labels(collector: Collector, copies: list[Copy]) -> None:
    """Remembers what both said, in case the truth becomes known."""
    plan = collector.plan
    if plan.criteria.outcome_loss is None:
        return
    collector.look()  # what stable said to these requests comes first
    rows, output = [copy.rows for copy in copies], plan.outputs[0].output if plan.outputs else ""

    def labels(answers: list[InferResponse]) -> Sequence[Label | None]:
        return look_at(answers, rows, nans=False, scores=False, labels=True, label_output=output).labels

    outcomes = collector.outcomes
    if collector.copies_only:  # no other answer of stable's is remembered: there is nothing to compare it with
        for copy, label in zip(copies, labels([copy.stable for copy in copies]), strict=True):
            outcomes.answered(copy.request_id, is_candidate=False, label=label)
    for copy, label in zip(copies, labels([copy.answer for copy in copies if copy.answer is not None]), strict=True):
        outcomes.copied(copy.request_id, label)


def _about(collector: Collector, copy: Copy) -> dict[str, Any]:
    about: dict[str, Any] = {"request_id": copy.request_id[:128]}
    if copy.segment:
        about["segment"] = copy.segment
    if collector.plan.capture_inputs:
        inputs, left = [], _MOST_INPUT_BYTES
        for spec, data in zip(copy.request.head.inputs, copy.request.data, strict=True):
            inputs.append({
                "name": spec.name, "datatype": spec.datatype.value, "shape": list(spec.shape),
                "base64": base64.b64encode(bytes(data[:left])).decode(), "cut": len(data) > left,
            })  # fmt: skip
            left = max(0, left - len(data))
        about["inputs"] = inputs
    return about
