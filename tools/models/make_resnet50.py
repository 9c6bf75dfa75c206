"""`make resnet50`: data, training, INT8: a ResNet-50 of our own, from nothing to a published version.

    python -m tools.models.make_resnet50 [--minutes 15 | --epochs 20 …] [--data FOLDER] [--rows 2000]

1. Fashion-MNIST out of Debian's package (pinned sha256), or out of `--data`.
2. `jobs.trainers.resnet50` in .venv-jobs, for a quarter of an hour of CPU by default; options that are not known here
   are handed on to it.
3. `sluice quantize publish`, judged on held-out test pictures, into the registry .cache/resnet50/registry.
4. Latency of what was published: INT8 on OpenVINO against FP32 on ONNX Runtime, one row, one thread, alternating.

Steps 1 to 3 are skipped if their result is there; remove .cache/resnet50 to begin anew. Weights (94 MB) stay there:
they are too large to commit.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from tools.models.wheels import ROOT

WORK = ROOT / ".cache" / "resnet50"
PACKAGE = "dataset-fashion-mnist=0.0~git20200523.55506a9-1"
SHA256 = "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0"
INSIDE = "usr/share/datasets/fashion-mnist/"
COPYRIGHT = "usr/share/doc/dataset-fashion-mnist/copyright"
INSTALLED = Path("/") / INSIDE
INT8 = Path("artifacts/openvino/model.onnx")


class CannotMake(Exception):
    """The message says what is missing and what to do."""


def main() -> int:
    """Returns the exit code: that of the step that failed, 2 if something is missing."""
    parser = argparse.ArgumentParser(description="train, quantize and publish ResNet-50")
    parser.add_argument("--data", type=Path, help="folder with the four IDX files (default: Debian's package)")
    parser.add_argument("--rows", type=int, default=2000, help="test pictures that judge INT8")
    parser.add_argument("--rounds", type=int, default=21, help="rounds of the latency race; 0: none")
    ours, trainers = parser.parse_known_args()
    try:
        # The training runs in another folder.
        data = ours.data.resolve() if ours.data else dataset()
        train(data, trainers)
    except CannotMake as error:
        print(f"make resnet50: {error}", file=sys.stderr)
        return 2
    environment = {**os.environ, "SLUICE_RESNET50_DATA": str(data)}
    registry = WORK / "registry"
    registry.mkdir(exist_ok=True)
    code = 0
    if (version := published(registry)) is not None:
        print(f"published already: {version}; the report is in {WORK / 'report'}")
    else:
        code = subprocess.run(publish_command(registry, ours.rows), cwd=ROOT, env=environment, check=False).returncode
    if code == 0 and ours.rounds:
        version = published(registry)
        assert version is not None
        code = subprocess.run(race_command(version, ours.rounds), cwd=ROOT, env=environment, check=False).returncode
    return code


def published(registry: Path) -> Path | None:
    """Returns the newest version that was made of the model in `outputs`, if there is one."""
    source = sha256_of(WORK / "outputs" / "resnet50.onnx")
    folders = sorted((path for path in registry.glob("resnet50/[0-9]*") if path.name.isdecimal()), key=_number)
    for folder in reversed(folders):
        record = folder / INT8.with_name("conversion.json")
        if record.exists() and json.loads(record.read_text(encoding="utf-8"))["source"]["sha256"] == source:
            return folder
    return None


def _number(folder: Path) -> int:
    return int(folder.name)


def race_command(version: Path, rounds: int) -> list[str]:
    fp32 = WORK / "outputs" / "resnet50.onnx"
    return [sys.executable, "-m", "tools.quantize_latency", str(rounds), str(fp32), str(version / INT8)]


def publish_command(registry: Path, rows: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gateway.cli", "quantize", "publish", str(WORK / "outputs" / "resnet50.onnx")),
        *("--name", "resnet50", "--registry", str(registry), "--report", str(WORK / "report"), "--metric", "top1"),
        *("--calibration", "tools.models.resnet50_rows:calibration", "--calibration-rows", "256"),
        *("--evaluation", "tools.models.resnet50_rows:evaluation", "--evaluation-rows", str(rows)),
        *("--target", "openvino", "--target", "tensorrt", "--max-batch-size", "8"),
    ]


def train(data: Path, options: list[str]) -> None:
    """Trains unless that is done. Raises CannotMake."""
    if (WORK / "outputs" / "resnet50.json").exists():
        print("trained already:", (WORK / "outputs" / "resnet50.json").read_text())
        return
    python = ROOT / ".venv-jobs" / "bin" / "python"
    if not python.exists():
        raise CannotMake("no .venv-jobs: run `make jobs`")
    if not any(option.startswith(("--minutes", "--epochs")) for option in options):
        options = ["--minutes", "15", *options]
    # Threads that spin while they wait take the time that the others need.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", **os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", "jobs.trainers.resnet50", "--data", str(data), *options]
    WORK.mkdir(parents=True, exist_ok=True)
    if subprocess.run(command, cwd=WORK, env=environment, check=False).returncode != 0:
        raise CannotMake("the training failed (its message is above)")


def dataset() -> Path:
    """Returns the folder with the four files. Raises CannotMake."""
    if INSTALLED.is_dir():
        return INSTALLED
    folder = WORK / "data"
    if (folder / "train-images-idx3-ubyte.gz").exists():
        return folder
    package = WORK / "dataset.deb"
    if not package.exists() or sha256_of(package) != SHA256:
        _download(package)
    unpack(package, folder)
    return folder


def _download(package: Path) -> None:
    if shutil.which("apt-get") is None:
        raise CannotMake("no apt-get here: name the folder with Fashion-MNIST's four IDX files with --data FOLDER")
    fresh = WORK / "download"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    subprocess.run(["apt-get", "download", PACKAGE], cwd=fresh, check=False)
    found = list(fresh.glob("*.deb"))
    if not found:
        raise CannotMake(f"apt-get download {PACKAGE} gave nothing (its message is above); --data FOLDER also works")
    if sha256_of(found[0]) != SHA256:
        raise CannotMake(f"{found[0].name} has another sha256 than is pinned")
    found[0].replace(package)


def unpack(package: Path, folder: Path) -> None:
    """Writes the data set's files and its licence; a Debian package is an `ar` archive with a tar archive in it."""
    content = package.read_bytes()
    fresh = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(member_of(content, "data.tar"))) as archive:
        for entry in archive:
            path = entry.name.removeprefix("./")
            if entry.isfile() and (path.startswith(INSIDE) or path == COPYRIGHT):
                inner = archive.extractfile(entry)
                assert inner is not None
                (fresh / Path(path).name).write_bytes(inner.read())
    fresh.rename(folder)


def member_of(archive: bytes, prefix: str) -> bytes:
    """Returns the first member whose name begins so. Raises CannotMake."""
    if not archive.startswith(b"!<arch>\n"):
        raise CannotMake("not a Debian package")
    at = 8
    while at + 60 <= len(archive):
        name, size = archive[at : at + 16].decode("ascii", "replace").strip(), int(archive[at + 48 : at + 58])
        if name.startswith(prefix):
            return archive[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    raise CannotMake(f"the package has no {prefix}")


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
