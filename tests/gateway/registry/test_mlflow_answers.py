"""What answers in MLflow's place is no reason for the publisher to end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from urllib.request import OpenerDirector, Request

import pytest

from gateway.registry.mlflow_client import Mlflow, MlflowError, RegisteredVersion

VERSION = RegisteredVersion("m", "1", "mlflow-artifacts:/1/model", "", True, {})


class Scripted(OpenerDirector):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    def open(self, request: Request, data: Any = None, timeout: Any = None) -> Any:  # type: ignore[override]
        below = request.full_url.endswith("%2Fa")
        return io.BytesIO(json.dumps({} if below else self._answer).encode())


@pytest.mark.parametrize(
    "files",
    [
        ["model.onnx"],
        [None],
        [{"path": "a", "is_dir": True}, {"path": "a", "is_dir": True}],
    ],
)
def test_a_listing_that_makes_no_sense(tmp_path: Path, files: list[Any]) -> None:
    mlflow = Mlflow("http://127.0.0.1:1", opener=Scripted({"files": files}))
    with pytest.raises(MlflowError):
        mlflow.download(VERSION, tmp_path / "artifacts")
