"""The two arms of a comparison: the same embedded Triton spoken to directly, and through Sluice.

One gateway process is started with its own Triton and the small network. The direct arms speak to that very Triton, to
two copies of the same model with Triton's own dynamic batching on, at no delay and at 500 us (the copy that the gateway
uses has it off: docs/adr/0001).
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "benchmarks" / "models"
PUBLIC, RENDERED = "small_net", "small_net.v1"
ZERO_DELAY, SOME_DELAY = "small_net_0us", "small_net_500us"
ROW = [((i * 37) % 101) / 50.0 - 1.0 for i in range(32)]
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Arms:
    """Starts and stops the servers, and reads their CPU time."""

    def __init__(self, folder: Path) -> None:
        settings = {
            "server.rest_port": 0, "server.grpc_port": 0, "server.admin_port": 0,
            "triton.http_port": 0, "triton.grpc_port": 0, "triton.metrics_port": 0,
            "triton.environment": os.environ.get("SLUICE_TRITON_ENV", str(ROOT / ".venv-triton")),
            "triton.work_folder": str(folder / "triton"), "registry.root": str(MODELS),
            "telemetry.access_log": str(folder / "access.log"),
        }  # fmt: skip
        command = [sys.executable, "-m", "gateway.cli", "serve", "--json"]
        for key, value in settings.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the gateway did not start (status {self.process.wait()})")
        self.ready: dict[str, Any] = json.loads(line)
        self._load_copy(ZERO_DELAY, 0)
        self._load_copy(SOME_DELAY, 500)
        self.expected = self._check_answers()

    def stop(self) -> None:
        """Stops the gateway and with it Triton."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def cpu_seconds(self) -> float:
        """Returns the CPU time the gateway process itself has used so far, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS

    def _load_copy(self, name: str, delay_us: int) -> None:
        """Loads a copy of the rendered model under `name`, with Triton's dynamic batching on."""
        rendered = Path(self.ready["triton_repository"]) / RENDERED
        address = self.ready["triton_http"]
        config = json.loads(post(address, f"/v2/models/{RENDERED}/config", None))
        config["name"] = name
        config["dynamic_batching"] = {"max_queue_delay_microseconds": delay_us}
        for key in ("version_policy", "optimization"):
            config.pop(key, None)
        parameters = {"config": json.dumps(config)}
        for file in sorted(path for path in (rendered / "1").iterdir() if path.is_file()):
            parameters[f"file:1/{file.name}"] = base64.b64encode(file.read_bytes()).decode()
        post(address, f"/v2/repository/models/{name}/load", json.dumps({"parameters": parameters}).encode())

    def _check_answers(self) -> float:
        """Asks every REST arm once and returns the answer all agree on."""
        answers = []
        triton = self.ready["triton_http"]
        for address, model in ((triton, ZERO_DELAY), (triton, SOME_DELAY), (self.ready["rest"], PUBLIC)):
            answer = json.loads(post(address, f"/v2/models/{model}/infer", json_body()))
            answers.append(float(answer["outputs"][0]["data"][0]))
        if max(answers) - min(answers) > 1e-5:
            raise RuntimeError(f"the arms disagree: {answers}")
        return answers[0]


def post(address: str, path: str, body: bytes | None) -> bytes:
    """Sends one REST request (GET without a body) and returns the answer; raises RuntimeError unless it is 200."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {text[:500]!r}")
    return text


def json_body() -> bytes:
    """One row as OIP JSON."""
    tensor = {"name": "X", "shape": [1, 32], "datatype": "FP32", "data": ROW}
    return json.dumps({"inputs": [tensor]}).encode()


def binary_body() -> tuple[bytes, int]:
    """One row in the binary tensor extension, answer in binary too: body and length of its JSON header."""
    tensor = {"name": "X", "shape": [1, 32], "datatype": "FP32", "parameters": {"binary_data_size": 128}}
    outputs = [{"name": "Y", "parameters": {"binary_data": True}}]
    header = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    return header + struct.pack("<32f", *ROW), len(header)


def grpc_message(model: str) -> bytes:
    """One row as a framed ModelInferRequest."""
    from gateway._generated import open_inference_pb2 as pb

    request = pb.ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="X", datatype="FP32")
    tensor.shape.extend([1, 32])
    request.raw_input_contents.append(struct.pack("<32f", *ROW))
    message = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(message)) + message
