"""Wide & Deep: rows per second at 1, 64, 512 and 2,048 rows per request."""

from __future__ import annotations

from benchmarks.arms import ROOT
from benchmarks.scenarios.session import Session

ROWS = (1, 64, 512, 2048)
DATA = ROOT / "model_repo" / "wide_deep" / "1" / "samples" / "held_out.npz"
_ARMS = ("triton_0us", "sluice")


def run(session: Session) -> None:
    """Adds rows/s of both arms by rows per request. Raises LoadFailed."""
    points = []
    session.prepare("wide_deep", _ARMS, session.tensors("wide_deep", 1, DATA))
    for rows in ROWS:
        tensors = session.tensors("wide_deep", rows, DATA)
        connections, streams = (4, 16) if rows == 1 else (2, 4)
        done = session.alternate(
            f"wide_deep x {rows}",
            lambda arm, t=tensors, c=connections, s=streams: session.closed(arm, "wide_deep", "grpc", t, c, s, 1),
            max(2, session.scale.few() // 2),
            _ARMS,
        )
        rates = {arm: [round(rate * rows) for rate in values] for arm, values in done.rates.items()}
        points.append(
            {"rows": rows, "rows_per_second": rates, "ratio": done.ratio(), "command": done.commands["sluice"]}
        )
        session.results["samples"][f"wide_deep_rows_{rows}"] = {"better": "higher", "values": rates["sluice"]}
    session.arms.unload_copies()
    session.results["scenarios"]["wide_deep"] = {"points": points, "command": points[-1]["command"]}
