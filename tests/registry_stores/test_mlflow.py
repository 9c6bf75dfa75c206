"""Following an alias of a registered model on a real MLflow server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.registry import journal
from gateway.registry.directory import DirectorySource
from gateway.registry.folder_store import FolderStore
from gateway.registry.mlflow_client import Mlflow, MlflowError, MlflowRefused, RegisteredVersion
from gateway.registry.mlflow_following import Following, follow_once
from gateway.registry.switching import PublishError
from gateway.versions import ModelVersion
from tests.registry_stores.mlflow_server import MlflowServer
from tests.support import onnx_bytes


def model_folder(folder: Path, columns: int) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx_bytes.model({"x": (1, ["n", columns])}, {"y": (1, ["n", 2])}))
    (folder / "MLmodel").write_text("flavors: {onnx: {data: model.onnx}}\n")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    found = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    found.start()
    yield found
    found.stop()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    (tmp_path / "registry").mkdir()
    return FolderStore(tmp_path / "registry")


def following(model: str) -> Following:
    return Following(model=model, alias="champion", name="net", serve=True, actor="follower")


def at(source: str) -> RegisteredVersion:
    return RegisteredVersion(model="m", version="1", source=source, run_id="", ready=True, tags={})


def test_an_alias_is_followed_there_and_back(server: MlflowServer, store: FolderStore, tmp_path: Path) -> None:
    mlflow = Mlflow(server.url)
    first, run_id = server.log("net", model_folder(tmp_path / "one", 3), auc="0.9", loss="nan")
    done = follow_once(store, mlflow, following("net"))
    assert done == f"net/1 published: champion of net in MLflow is version {first}"
    assert follow_once(store, mlflow, following("net")) is None
    second, _ = server.log("net", model_folder(tmp_path / "two", 4), auc="0.95")
    follow_once(store, mlflow, following("net"))
    source = DirectorySource(store.root)
    assert source.scan() == {"net": (2,)}

    lineage = source.verify(ModelVersion("net", 1)).lineage["mlflow"]
    assert (lineage["version"], lineage["run_id"], lineage["alias"]) == (first, run_id, "champion")
    assert lineage["metrics"]["auc"] == 0.9
    assert str(lineage["metrics"]["loss"]).lower() == "nan"
    assert lineage["tags"]["team"] == "vision"
    assert lineage["version_tags"] == {"stage": "candidate"}
    assert source.verify(ModelVersion("net", 2)).inputs[0].shape == (4,)

    server.point("net", first)
    done = follow_once(store, mlflow, following("net"))
    assert done == f"net/1 is the one to serve: champion of net in MLflow is version {first}"
    assert source.scan() == {"net": (1,)}
    server.point("net", second)
    follow_once(store, mlflow, following("net"))
    assert source.versions("net") == (1, 2)
    told = [(entry["action"], entry["version"], entry["actor"]) for entry in journal.entries(store)]
    assert told == [
        ("publish", 1, "follower"), ("serve", 1, "follower"), ("publish", 2, "follower"), ("serve", 2, "follower"),
        ("serve", 1, "follower"), ("serve", 2, "follower"),
    ]  # fmt: skip


def test_a_model_that_was_logged_on_its_own_is_found(server: MlflowServer, store: FolderStore, tmp_path: Path) -> None:
    """MLflow 3 registers `models:/m-…`, which is a name and no place."""
    _, model_id = server.log_model("logged", model_folder(tmp_path / "one", 3))
    assert Mlflow(server.url).alias("logged", "champion").source == f"models:/{model_id}"
    done = follow_once(store, Mlflow(server.url), following("logged"))
    assert done is not None
    assert done.startswith("net/1 published")
    lineage = DirectorySource(store.root).verify(ModelVersion("net", 1)).lineage["mlflow"]
    assert lineage["metrics"] == {"auc": 0.75}
    assert lineage["logged_model"] == {
        "id": model_id, "metrics": {}, "params": {"lr": "0.1"}, "tags": lineage["logged_model"]["tags"],
    }  # fmt: skip
    assert lineage["logged_model"]["tags"]["team"] == "vision"
    assert follow_once(store, Mlflow(server.url), following("logged")) is None


@pytest.mark.parametrize(
    "place", ["/etc", "file:///etc", "s3://bucket/model", "models:/m-1", "mlflow-artifacts:/../x", "dbfs:/x"]
)
def test_a_name_that_leads_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str) -> None:
    monkeypatch.setattr(Mlflow, "_ask", lambda self, endpoint, query: {"artifact_uri": place})
    with pytest.raises(MlflowRefused):
        Mlflow("http://127.0.0.1:9").download(at("models:/m-1"), tmp_path / "t")


def test_files_elsewhere_are_refused(server: MlflowServer, store: FolderStore, tmp_path: Path) -> None:
    """What MLflow calls a model's place is written by whoever may register models."""
    outside = model_folder(tmp_path / "outside", 3)
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link").symlink_to(outside)
    sources = [
        str(outside),
        f"file://{outside}",
        f"file://{allowed}/../outside",
        f"{allowed}/link",
        "s3://bucket/model",
    ]
    for number, source in enumerate(sources):
        with pytest.raises(MlflowRefused):
            Mlflow(server.url, roots=(allowed,)).download(at(source), tmp_path / f"t{number}")
    assert list(store.root.iterdir()) == []
    inside = model_folder(allowed / "inside", 5)
    Mlflow(server.url, roots=(allowed,)).download(at(f"file://{inside}"), tmp_path / "copy")
    assert (tmp_path / "copy/model.onnx").exists()


@pytest.mark.parametrize("path", ["mlflow-artifacts:/../../etc", "mlflow-artifacts:/", "mlflow-artifacts://host/x"])
def test_paths_that_lead_out_of_the_servers_artifacts_are_refused(
    server: MlflowServer, tmp_path: Path, path: str
) -> None:
    with pytest.raises(MlflowRefused):
        Mlflow(server.url).download(at(path), tmp_path / "t")


def test_what_is_no_model_is_refused(server: MlflowServer, store: FolderStore, tmp_path: Path) -> None:
    folder = tmp_path / "pickle"
    folder.mkdir()
    (folder / "model.pkl").write_bytes(b"\x80\x04.")
    server.log("pickled", folder)
    with pytest.raises(PublishError, match=r"no single \.onnx file"):
        follow_once(store, Mlflow(server.url), following("pickled"))
    assert store.names("net") == []


def test_a_missing_alias_or_model_is_reported(server: MlflowServer, store: FolderStore) -> None:
    with pytest.raises(MlflowError, match="MLflow answers"):
        follow_once(store, Mlflow(server.url), following("nothing"))


def test_what_answers_must_be_mlflow_over_http(store: FolderStore) -> None:
    with pytest.raises(MlflowError, match="is not an http"):
        follow_once(store, Mlflow("file:///etc"), following("net"))


def test_the_command(
    server: MlflowServer, store: FolderStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.log("commanded", model_folder(tmp_path / "one", 3))
    command = [
        "models", "follow-mlflow", "--registry", str(store.root), "--tracking", server.url, "--model", "commanded",
        "--alias", "champion", "--once",
    ]  # fmt: skip
    assert main(command) == 0
    assert "commanded/1 published" in capsys.readouterr().out
    assert main([*command, "--serve"]) == 0
    assert DirectorySource(store.root).scan() == {"commanded": (1,)}
    assert main([*command[:-3], "--alias", "nobody", "--once"]) == 1


def test_an_mlflow_that_is_down_changes_nothing(server: MlflowServer, store: FolderStore, tmp_path: Path) -> None:
    """The last one here: it ends the server."""
    server.log("down", model_folder(tmp_path / "one", 3))
    follow_once(store, Mlflow(server.url), following("down"))
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    server.stop()
    with pytest.raises(MlflowError, match="does not answer"):
        follow_once(store, Mlflow(server.url), following("down"))
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before
