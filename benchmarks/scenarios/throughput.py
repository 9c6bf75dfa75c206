"""Closed-loop comparisons with direct Triton: the small network in three protocols, pictures, the BERT shape."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scenarios.session import ALL_ARMS, Session
from gateway.bench.payload import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison: `key` names it in the results; `pairs` times the usual number of them; `seconds` of a run, and in
    how many slices it alternates with the others'."""

    key: str
    model: str
    protocol: str
    connections: int
    streams: int
    pairs: float = 1
    seconds: float | None = None
    slices: int = 1


SMALL = (
    Comparison(key="grpc", model="small_net", protocol="grpc", connections=4, streams=16),
    Comparison(key="rest_json", model="small_net", protocol="rest_json", connections=32, streams=1, pairs=0.75),
    Comparison(key="rest_binary", model="small_net", protocol="rest_binary", connections=32, streams=1, pairs=0.75),
)
# What the machine does to such a model changes within a second and meets all arms alike. The goal is within 3 % of
# direct Triton, and single runs differ by 10 %: many pairs, and slices as short as the unfilled batches at their ends
# allow (the first one takes 10 ms a row). A fixed piece of work, compared with itself for 40 s in alternating slices of
# 2, 1, 0.5 and 0.2 s: 1 give or take 0.038, 0.024, 0.013 and 0.007 (standard error).
PICTURES = (
    Comparison(
        key="image_uint8",
        model="efficientnet_lite0",
        protocol="grpc",
        connections=4,
        streams=4,
        pairs=1.5,
        seconds=2,
        slices=2,
    ),
    Comparison(key="image_fp32", model="picture_net", protocol="grpc", connections=4, streams=4, pairs=1.5, slices=4),
)
BERT = (
    Comparison(
        key="bert", model="bert_shape", protocol="grpc", connections=2, streams=4, pairs=1.5, seconds=2, slices=4
    ),
)


def run(session: Session, comparisons: Sequence[Comparison]) -> None:
    """Adds arms, ratios and CPU of each comparison to the results."""
    for one in comparisons:
        shapes = {"input_ids": (128,)} if one.model == "bert_shape" else {}
        tensors = session.tensors(one.model, **shapes)
        session.prepare(one.model, ALL_ARMS, tensors)
        _compare(session, one, tensors)
        if one.model != "small_net":
            session.arms.unload_copies()


def _compare(session: Session, one: Comparison, tensors: list[Tensor]) -> None:
    span = (session.scale.seconds if one.seconds is None else one.seconds) / one.slices
    done = session.alternate(
        one.key,
        lambda arm: session.closed(arm, one.model, one.protocol, tensors, one.connections, one.streams, span),
        round(session.scale.pairs * one.pairs),
        slices=one.slices,
    )
    results = session.results
    results["arms"] |= done.arm_rows(one.key)
    results["ratios"][f"{one.key}_small_vs_triton" if one.model == "small_net" else f"{one.key}_vs_triton"] = (
        done.ratio()
    )
    results["ratios"][f"{one.key}_server_cpu"] = done.cpu_ratio()
    results["cpu_us_per_request"][one.key] = done.cpu()
    results["samples"][f"cpu_us_{one.key}"] = {"better": "lower", "values": [round(v, 1) for v in done.cpu_us]}
    session.say(f"  {one.key}: {json.dumps({k: v for k, v in done.ratio().items() if k != 'pairs'})}")
