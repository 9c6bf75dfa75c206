"""`make quantize-demo`: four real models through `sluice quantize publish`, into a registry of their own.

    python -m tools.quantize_demo [FOLDER]

EfficientNet-Lite0, MiniLM with a head, and Wide & Deep are published; EfficientNet-Lite0 with one scale a weight and
MobileNetV2 are refused. Exit code 1 if any of the five ends otherwise.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tools import quantize_rows
from tools.models.wheels import ROOT


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the command: what it is given, and the exit code that is right."""

    title: str
    name: str
    model: str
    rows: str
    options: tuple[str, ...]
    expected: int


TARGETS = ("--target", "openvino", "--target", "onnxruntime", "--target", "tensorrt")
SMALL = "--accept-small-evaluation"
CASES = (
    Case("EfficientNet-Lite0", "efficientnet_lite0", "model_repo/efficientnet_lite0/1/artifacts/onnx/model.onnx",
         "pictures", (*TARGETS, SMALL), 0),
    Case("EfficientNet-Lite0, one scale a weight, no ladder", "efficientnet_lite0",
         "model_repo/efficientnet_lite0/1/artifacts/onnx/model.onnx", "pictures",
         ("--target", "openvino", SMALL, "--per-tensor", "--fallback", "none"), 3),
    Case("MobileNetV2", "mobilenet_v2", "{folder}/mobilenet_v2.onnx", "pictures", ("--target", "openvino", SMALL), 3),
    Case("MiniLM, reviews", "minilm_departments", "{folder}/minilm_departments.onnx", "texts", TARGETS, 0),
    Case("Wide & Deep on Adult", "wide_deep", "model_repo/wide_deep/1/artifacts/onnx/model.onnx", "table",
         (*TARGETS, "--metric", "auc", "--max-batch-size", "256", "--allow-slower"), 0),
)  # fmt: skip


def main() -> int:
    """Returns 0 if all cases end as they should."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".cache" / "quantize")
    registry = folder / "registry"
    registry.mkdir(parents=True, exist_ok=True)
    if not (folder / "texts.evaluation.npz").exists():
        for make in (
            quantize_rows.pictures,
            quantize_rows.views,
            quantize_rows.mobilenet,
            quantize_rows.table,
            quantize_rows.texts,
        ):
            make(folder)
    lines, wrong = [], 0
    for case in CASES:
        print(f"\n== {case.title}", flush=True)
        started = time.perf_counter()
        command = [
            sys.executable, "-m", "gateway.cli", "quantize", "publish", case.model.format(folder=folder), "--name",
            case.name, "--calibration", f"{folder}/{case.rows}.calibration.npz", "--evaluation",
            f"{folder}/{case.rows}.evaluation.npz", "--registry", str(registry), "--report",
            f"{folder}/reports/{case.name}-{case.expected}", *case.options,
        ]  # fmt: skip
        if not sys.stderr.isatty():
            command.append("--quiet")  # a progress bar is for people
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        wrong += code != case.expected
        verdict = {0: "published", 3: "refused"}.get(code, f"exit code {code}")
        lines.append(f"{verdict:10} {time.perf_counter() - started:6.0f} s  {case.title}")
    print("\n" + "\n".join(lines))
    print(f"reports: {folder}/reports/*/report.html, registry: {registry}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
