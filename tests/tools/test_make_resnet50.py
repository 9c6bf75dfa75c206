"""Fashion-MNIST out of a Debian package, without Debian's tools."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tools.models import make_resnet50
from tools.models.make_resnet50 import COPYRIGHT, INSIDE, CannotMake, member_of, unpack


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
