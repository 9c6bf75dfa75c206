"""A conversion that was proven, written down so that it can be repeated: the FP32 graph and this record give the bytes.

The record has everything that calibration and the ladder decided (scales, what stays float, SmoothQuant's peaks), so
repeating it takes seconds, runs no row and judges nothing: the sha256 in the manifest says whether the artifact is the
one that was judged. Invariant: only a record of a plain Q/DQ graph is repeated; whatever else it says is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quantize.calibration import Calibration
from quantize.dynamic import dynamic
from quantize.errors import BadInput, IntegrityFailure, QuantizeError
from quantize.graph import Graph
from quantize.intake import load_model
from quantize.normalise import infer_shapes, normalise
from quantize.placement import place
from quantize.qdq import Form, quantize
from quantize.ranges import Scale
from quantize.smoothing import smooth
from quantize.tensorrt_form import for_tensorrt

SCHEMA_VERSION = 1


def record_of(candidate: Any, outputs: list[str], source: dict[str, Any], peaks: dict[str, Any]) -> dict[str, Any]:
    """Returns the record of a `quantize.targets.Candidate`; `source` says which file it was made from."""
    form = candidate.form
    return {
        "schema_version": SCHEMA_VERSION,
        "source": source,
        "target": candidate.target,
        "outputs": outputs,
        "form": {"name": form.name, "symmetric": form.symmetric, "style": form.style, "per_channel": form.per_channel},
        "keep_float": list(candidate.keep_float),
        "smooth_peaks": {name: array.tolist() for name, array in sorted(peaks.items())},
        "scales": {name: [s.scale, s.zero_point, s.signed] for name, s in candidate.scales.items()},
    }


def repeat(source: Path, record: Path, sha256: str) -> bytes:
    """Returns the INT8 graph that `record` makes of the FP32 graph in `source`.

    Raises:
        BadInput: the record cannot be used.
        IntegrityFailure: the source or the result is another one than was proven.
    """
    try:
        wanted = json.loads(record.read_text(encoding="utf-8"))
        form = Form(**wanted["form"])
        scales = {name: Scale(float(s), int(z), bool(signed)) for name, (s, z, signed) in wanted["scales"].items()}
        peaks = {name: np.array(values, np.float32) for name, values in wanted["smooth_peaks"].items()}
        target, outputs, keep, known = (wanted[k] for k in ("target", "outputs", "keep_float", "source"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{record}: not a record of a conversion ({error})") from error
    loaded = load_model(source)
    if loaded.sha256 != known.get("sha256"):
        raise IntegrityFailure(f"{source}: not the FP32 model that was converted (sha256 {loaded.sha256})")
    model, _ = normalise(loaded.proto, [str(name) for name in outputs])
    if peaks:
        model = infer_shapes(smooth(model, Calibration(peaks=peaks))[0])
    candidate = build(str(target), model, form, [str(p) for p in keep], scales)
    if hashlib.sha256(candidate).hexdigest() != sha256:
        raise IntegrityFailure(
            f"{record}: converting {source} again gives other bytes than were proven (other versions of numpy or onnx?)"
        )
    return candidate


def build(target: str, model: onnx.ModelProto, form: Form, keep: list[str], scales: dict[str, Scale]) -> bytes:
    """Returns the graph's bytes. Raises QuantizeError if a scale is missing."""
    source = for_tensorrt(model) if target == "tensorrt" else model
    graph = Graph(source)
    placement = place(graph, style=form.style, keep_float=keep)
    if form.name == "dynamic":
        made = dynamic(source, placement)
    else:
        lacking = [name for name in placement.tensors if name not in scales]
        if lacking:
            raise QuantizeError(f"no scale is known for {', '.join(lacking[:4])}")
        made = quantize(source, placement, scales, form)
    content: bytes = made.SerializeToString(deterministic=True)
    return content
