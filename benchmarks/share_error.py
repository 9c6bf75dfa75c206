"""How near a release's real share is to the one asked for: open-loop gRPC requests through a gateway and its Triton.

Run: python -m benchmarks.share_error --requests 100000 --weight 10 --rate 2000. Requests have no sticky key, so that
each request id falls into a bucket of its own. Prints the count of each arm and the binomial 99.9 % interval.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shadow_cost import MODEL, Gateway

_QUANTILE = 3.2905
"""Of the normal distribution, for 99.9 % between both sides."""


def measure(requests: int, percent: float, rate: int) -> dict[str, Any]:
    """Returns the arms' counts after about `requests` requests, and the interval in which the candidate's must be."""
    with tempfile.TemporaryDirectory() as place:
        gateway = Gateway(Path(place))
        try:
            body = {
                "model": MODEL, "candidate": 2, "steps": f"{percent}%,100%", "judged": False, "shadow_share": "0%",
                "actor": "benchmark",
            }  # fmt: skip
            release = gateway.post("/v1/releases", body)["id"]
            time.sleep(8)  # noqa: TID251
            report = gateway.load(rate, requests / rate)
            live = gateway.get(f"/v1/releases/{release}")["live"]
        finally:
            gateway.arms.stop()
    counts = {arm["name"]: arm["requests"] for arm in live["arms"]}
    total, share = sum(counts.values()), percent / 100
    spread = _QUANTILE * math.sqrt(total * share * (1 - share))
    return {
        "requests": total,
        "candidate": counts["candidate"],
        "interval": [round(total * share - spread), round(total * share + spread)],
        "within": abs(counts["candidate"] - total * share) <= spread,
        "outcomes": report["outcomes"],
    }


def main() -> None:
    """Prints the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--weight", type=float, default=10.0, help="percent")
    parser.add_argument("--rate", type=int, default=2000)
    given = parser.parse_args()
    print(json.dumps(measure(given.requests, given.weight, given.rate), indent=1))


if __name__ == "__main__":
    main()
