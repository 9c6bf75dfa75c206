"""Makes version 2 of the demo models: INT8 through `sluice quantize publish`, as a user would.

    python -m tools.models.publish_int8 [MODEL…]        (default: all three)

Rows: `python -m tools.quantize_rows .cache/quantize`. The version is published into a registry of its own, then laid
into model_repo/. Artifacts above 1 MB are not committed: the manifest says how `make models` makes them again out of
version 1 and the recorded conversion, to the same sha256.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.models.wheels import ROOT

ROWS = ".cache/quantize"
MOST_COMMITTED = 1_000_000
TARGETS = ("--target", "openvino", "--target", "onnxruntime", "--target", "tensorrt")
# A network this small is quicker in ONNX Runtime; the first target is what is served on a CPU.
SMALL_FIRST = ("--target", "onnxruntime", "--target", "openvino", "--target", "tensorrt")
MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "efficientnet_lite0": (
        "pictures",
        (*TARGETS, "--accept-small-evaluation", "--agreement", f"{ROWS}/pictures.views.npz"),
    ),
    "minilm": ("texts", (*TARGETS, "--metric", "tools.quantize_rows:department_accuracy")),
    "wide_deep": ("table", (*SMALL_FIRST, "--metric", "auc", "--max-batch-size", "256", "--allow-slower")),
}


def publish(model: str) -> None:
    """Replaces model_repo/MODEL/2. Raises CalledProcessError if the gate refuses."""
    rows, options = MODELS[model]
    target = ROOT / "model_repo" / model / "2"
    with tempfile.TemporaryDirectory() as made:
        registry = Path(made)
        shutil.copytree(ROOT / "model_repo" / model / "1", registry / model / "1")
        command = [
            *(sys.executable, "-m", "gateway.cli", "quantize", "publish"),
            f"model_repo/{model}/1/artifacts/onnx/model.onnx",
            *("--name", model, "--registry", str(registry), "--actor", "tools/models/publish_int8.py", "--quiet"),
            *("--calibration", f"{ROWS}/{rows}.calibration.npz", "--evaluation", f"{ROWS}/{rows}.evaluation.npz"),
            *options,
        ]
        subprocess.run(command, cwd=ROOT, check=True)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(registry / model / "2", target)
    (target / "manifest.sha256").unlink(missing_ok=True)
    path = target / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for entry in manifest["files"]:
        if entry["size"] > MOST_COMMITTED:
            entry["conversion"] = conversion_of(target, entry)
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def conversion_of(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """Returns how the file is made again, after making it again and comparing."""
    from quantize.conversion import repeat

    record = Path(entry["path"]).with_name("conversion.json").as_posix()
    source = json.loads((folder / record).read_text(encoding="utf-8"))["source"]
    again = repeat(folder.parent / str(source["version"]) / source["path"], folder / record, entry["sha256"])
    assert hashlib.sha256(again).hexdigest() == entry["sha256"]
    return {"version": source["version"], "path": source["path"], "record": record}


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        publish(name)
