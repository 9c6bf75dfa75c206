"""`make resnet50`: Fashion-MNIST out of a Debian package, and the steps after the training."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from gateway import cli
from jobs.trainers import fashion_mnist
from quantize import evaluation
from quantize.actions import verify_folder
from tests.support.onnx_models import Builder, value
from tools import quantize_latency
from tools.models import make_resnet50
from tools.models.make_resnet50 import COPYRIGHT, INSIDE, CannotMake, member_of, unpack

TRAIN_ROWS, TEST_ROWS = 1600, 40


def package(files: dict[str, bytes]) -> bytes:
    """Returns a Debian package, as `ar` writes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    found = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", data.getvalue())):
        found += (
            f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )
    return found


def test_data_and_licence_are_unpacked_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "p.deb"
    path.write_bytes(package({f"{INSIDE}train.gz": b"pictures", COPYRIGHT: b"Expat", "etc/passwd": b"", "../x": b""}))
    unpack(path, tmp_path / "data")
    assert {p.name: p.read_bytes() for p in (tmp_path / "data").iterdir()} == {
        "train.gz": b"pictures",
        "copyright": b"Expat",
    }
    assert not (tmp_path / "x").exists()


def test_what_is_no_package_is_said() -> None:
    for content in (b"", b"PK", b"!<arch>\n", package({})[:100]):
        with pytest.raises(CannotMake):
            member_of(content, "data.tar")


def test_without_apt_the_folder_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_resnet50, "WORK", tmp_path)
    monkeypatch.setattr(make_resnet50, "INSTALLED", tmp_path / "not-there")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["make_resnet50"])
    assert make_resnet50.main() == 2
    assert "--data FOLDER" in capsys.readouterr().err


def write_data(folder: Path) -> None:
    """Writes the four files, fewer rows: on a picture of class c the c-th pair of lines is bright."""
    rng = np.random.default_rng(0)
    for prefix, rows in (("train", TRAIN_ROWS), ("t10k", TEST_ROWS)):
        labels = np.arange(rows, dtype=np.uint8) % 10
        pictures = rng.integers(0, 40, (rows, 28, 28), dtype=np.uint8)
        for row, label in enumerate(labels):
            pictures[row, 2 * label : 2 * label + 2] += 200
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))


def classifier() -> onnx.ModelProto:
    """Returns a network with the inputs and outputs of the trained one that knows those classes."""
    b = Builder(0)
    lines = np.zeros((10, 3, 28, 28), np.float32)
    for label in range(10):
        lines[label, :, 2 * label : 2 * label + 2] = 0.1
    x = b.node("AveragePool", ["image"], "small", kernel_shape=[8, 8], strides=[8, 8])
    x = b.node("Conv", [x, b.constant("lines", lines)], "seen")
    b.node("Flatten", [x], "logits")
    return b.model(
        [value("image", TensorProto.FLOAT, "rows", 3, 224, 224)], [value("logits", TensorProto.FLOAT, "rows", 10)]
    )


def test_what_was_trained_is_published_once_and_raced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    (tmp_path / "outputs").mkdir()
    data.mkdir()
    write_data(data)
    onnx.save(classifier(), str(tmp_path / "outputs" / "resnet50.onnx"))
    (tmp_path / "outputs" / "resnet50.json").write_text("{}")
    monkeypatch.setattr(make_resnet50, "WORK", tmp_path)
    monkeypatch.setattr(fashion_mnist, "_PARTS", {"train": ("train", TRAIN_ROWS), "test": ("t10k", TEST_ROWS)})
    for name, short in (("BLOCK_S", 0.001), ("ROUNDS", 2), ("PROBE_ROWS", 2)):
        monkeypatch.setattr(evaluation, name, short)
    ran: list[str] = []

    def here(command: list[str], *, cwd: Path, env: dict[str, str], check: bool) -> subprocess.CompletedProcess[bytes]:
        """Runs in this process what would be a process of its own (with these few rows and short races)."""
        assert cwd == make_resnet50.ROOT
        assert env["SLUICE_RESNET50_DATA"] == str(data), "a folder that is named is meant from here"
        ran.append(command[2])
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLUICE_RESNET50_DATA", env["SLUICE_RESNET50_DATA"])
            if command[2] == "gateway.cli":
                return subprocess.CompletedProcess(
                    command, cli.main([*command[3:], "--accept-small-evaluation", "--allow-slower"])
                )
            patch.setattr("sys.argv", command[2:])
            quantize_latency.main()
            return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", here)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["make_resnet50", "--data", "data", "--rows", str(TEST_ROWS), "--rounds", "1"])
    assert make_resnet50.main() == 0
    assert make_resnet50.main() == 0
    assert ran == ["gateway.cli", "tools.quantize_latency", "tools.quantize_latency"]
    said = capsys.readouterr().out
    assert "published already" in said
    assert said.count("ResNet-50, trained: FP32 ONNX Runtime") == 2
    assert set(verify_folder(tmp_path / "registry" / "resnet50" / "1")["targets"]) == {"openvino"}
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert report["data"]["evaluation"]["rows"] == TEST_ROWS
    assert report["targets"][0]["fp32"] > 0.9


def test_a_network_trained_anew_is_not_published_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_resnet50, "WORK", tmp_path)
    (tmp_path / "outputs").mkdir()
    model = tmp_path / "outputs" / "resnet50.onnx"
    for number, content in ((9, b"old"), (10, b"new")):
        model.write_bytes(content)
        record = tmp_path / "registry" / "resnet50" / str(number) / "artifacts" / "openvino" / "conversion.json"
        record.parent.mkdir(parents=True)
        record.write_text(json.dumps({"source": {"sha256": make_resnet50.sha256_of(model)}}))
        found = make_resnet50.published(tmp_path / "registry")
        assert found is not None
        assert found.name == str(number)
    model.write_bytes(b"newer still")
    assert make_resnet50.published(tmp_path / "registry") is None
