"""The two arms of a comparison: the same embedded Triton spoken to directly, and through Sluice.

One gateway process is started with its own Triton. The direct arms speak to that very Triton, to two copies of the same
model with Triton's own dynamic batching on, at no delay and at 500 us (the copy that the gateway uses has it off:
docs/adr/0001).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.bench.answers import Outputs, decode_rest, same
from gateway.bench.channels import channel_for
from gateway.bench.encoding import HEADER_LENGTH, rest_binary_body
from gateway.bench.generator import ask_alone
from gateway.bench.grpc_codec import decode_grpc
from gateway.bench.machine import CpuWatch
from gateway.bench.payload import Tensor, spec_of
from gateway.tensors import Buffer, TensorSpec

ROOT = Path(__file__).resolve().parents[1]
DELAYS_US = {"triton_0us": 0, "triton_500us": 500}
"""Arms that speak to Triton directly, and the delay of its batcher in microseconds."""
SLUICE = "sluice"
_GATEWAY = "gateway"


class Arms:
    """Starts and stops the servers, and reads their CPU time. `module` is what runs the gateway's command line."""

    def __init__(
        self, folder: Path, registry: Path, settings: dict[str, Any] | None = None, module: str = "gateway.cli"
    ) -> None:
        everything = {
            "server.rest_port": 0, "server.grpc_port": 0, "server.admin_port": 0,
            "triton.http_port": 0, "triton.grpc_port": 0, "triton.metrics_port": 0,
            "triton.environment": os.environ.get("SLUICE_TRITON_ENV", str(ROOT / ".venv-triton")),
            "triton.work_folder": str(folder / "triton"), "registry.root": str(registry),
            "telemetry.access_log": str(folder / "access.log"), "telemetry.log_level": "error",
        } | (settings or {})  # fmt: skip
        command = [sys.executable, "-m", module, "serve", "--json"]
        for key, value in everything.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the gateway did not start (status {self.process.wait()})")
        self.ready: dict[str, Any] = json.loads(line)
        if "grpc" not in self.ready:
            raise RuntimeError(f"the gateway did not start: {line.decode()}")
        if self.ready.get("failed"):
            self.stop()
            raise RuntimeError(f"models did not load: {self.ready['failed']}")
        self._copies: set[str] = set()

    def stop(self) -> None:
        """Stops the gateway and with it Triton."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()  # Triton ends with it
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def watch_cpu(self) -> Callable[[], tuple[float, float]]:
        """Begins to watch; the function returned gives the CPU seconds since: of the gateway, and of it with Triton and
        the models' processes."""
        watch = CpuWatch({_GATEWAY: self.process.pid})
        watch.start()

        def used() -> tuple[float, float]:
            found = watch.used()
            if _GATEWAY not in found:
                raise RuntimeError("the gateway is gone")
            return found[_GATEWAY], sum(found.values())

        return used

    def name(self, arm: str, model: str) -> str:
        """Returns what `model` is called in an arm."""
        return model if arm == SLUICE else f"{model}_{arm}"

    def address(self, arm: str, protocol: str) -> str:
        """Returns where an arm listens; `protocol` is grpc, rest_json or rest_binary."""
        if arm == SLUICE:
            return str(self.ready["grpc" if protocol == "grpc" else "rest"])
        return str(self.ready["triton_grpc" if protocol == "grpc" else "triton_http"])

    def inputs(self, model: str) -> tuple[TensorSpec, ...]:
        """Returns the inputs of a model as the gateway describes them."""
        found = json.loads(request(self.ready["rest"], f"/v2/models/{model}", None)[1])
        return tuple(spec_of(entry["name"], entry["datatype"], entry["shape"]) for entry in found["inputs"])

    def load_copy(self, arm: str, model: str) -> None:
        """Loads a copy of the rendered model for a direct arm, with Triton's dynamic batching on.

        Again is harmless, and brings the copy back where Triton died and was started anew.
        """
        name, rendered = self.name(arm, model), f"{model}.v1"
        address = self.ready["triton_http"]
        if name in self._copies and _is_ready(address, name):
            return
        config = json.loads(request(address, f"/v2/models/{rendered}/config", None)[1])
        config["name"] = name
        config["dynamic_batching"] = {"max_queue_delay_microseconds": DELAYS_US[arm]}
        for key in ("version_policy", "optimization"):
            config.pop(key, None)
        repository = Path(self.ready["triton_repository"])
        ignored = shutil.ignore_patterns("__pycache__", "config.pbtxt")
        if not (repository / name).exists():
            shutil.copytree(repository / rendered, repository / name, copy_function=os.link, ignore=ignored)
        body = json.dumps({"parameters": {"config": json.dumps(config)}}).encode()
        request(address, f"/v2/repository/models/{name}/load", body)
        self._copies.add(name)

    def unload_copies(self) -> None:
        """Unloads what `load_copy` loaded, so that it takes neither memory nor threads from what comes next."""
        for name in self._copies:
            with contextlib.suppress(OSError, RuntimeError):  # a Triton that died has unloaded everything
                request(self.ready["triton_http"], f"/v2/repository/models/{name}/unload", b"{}")
        self._copies.clear()

    def answer_bytes(self, arm: str, model: str, tensors: Sequence[Tensor]) -> int:
        """Returns the size of a right answer's gRPC frame. Raises TargetError."""
        return asyncio.run(_frame_bytes(self.address(arm, "grpc"), self.name(arm, model), tensors))

    def check(self, arms: Sequence[str], model: str, tensors: Sequence[Tensor]) -> None:
        """Asks every arm the same once; raises RuntimeError unless all answers agree."""
        outputs = json.loads(request(self.ready["rest"], f"/v2/models/{model}", None)[1])["outputs"]
        body, length = rest_binary_body(tensors, [entry["name"] for entry in outputs])
        answers: dict[str, Outputs] = {}
        for arm in arms:
            path = f"/v2/models/{self.name(arm, model)}/infer"
            headers, answer = request(self.address(arm, "rest_binary"), path, body, length)
            announced = headers.get(HEADER_LENGTH.lower())
            answers[arm] = decode_rest(answer, None if announced is None else int(announced))
            if not same(answers[arms[0]], answers[arm]):
                raise RuntimeError(f"{arms[0]} and {arm} answer differently on {model}")


def _is_ready(address: str, name: str) -> bool:
    try:
        request(address, f"/v2/models/{name}/ready", None)
    except (OSError, RuntimeError):
        return False
    return True


async def _frame_bytes(address: str, name: str, tensors: Sequence[Tensor]) -> int:
    channel = channel_for("grpc", address, 1, None)
    sizes: list[int] = []

    def decode(body: Buffer, _: int | None) -> Outputs:
        sizes.append(len(body))
        return decode_grpc(body)

    channel.decode = decode
    try:
        await channel.open()
        await ask_alone(channel, [channel.prepare(name, "", tensors, [])])
    finally:
        await channel.close()
    return sizes[0]


def request(
    address: str, path: str, body: bytes | None, header_length: int | None = None
) -> tuple[dict[str, str], bytes]:
    """Sends one REST request (GET without a body); returns headers and body. Raises RuntimeError unless it is 200."""
    connection = http.client.HTTPConnection(address, timeout=120)
    headers = {"content-type": "application/json"} if body is not None else {}
    if header_length is not None:
        headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(header_length)}
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {text[:500]!r}")
    return {key.lower(): value for key, value in answer.getheaders()}, text
