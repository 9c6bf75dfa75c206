"""Runs attempts on an existing Ray cluster, as Ray Jobs (its REST API; nothing of Ray is imported here).

Decides: what Ray runs is the keeper, so limits, grace, logs and exit records are the same as here; Ray's part is the
place. Needs the state folder, the job's folder and the runner's Python under the same paths on every node. The
submission id is the attempt's token, so an attempt is submitted once and found again. Invariants: an attempt is lost
only when Ray says that it is over (a node that died) and there is no exit record; it is then fenced by a stop in its
folder, so that a keeper that was only cut off ends itself. While the cluster does not answer nothing is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs import contract, files
from jobs.executors.local import keeper_command, write_launch
from jobs.executors.port import Launch

_LOOK_S, _TIMEOUT_S, _LAST_LOOKS = 0.5, 30.0, 4
_OVER = ("STOPPED", "SUCCEEDED", "FAILED")


class RayExecutor:
    """Submits to the cluster whose dashboard is at `address`, such as http://127.0.0.1:8265."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")

    def start(self, launch: Launch) -> RayHandle:
        write_launch(launch)
        asked = launch.job.resources
        environment = dict(launch.environment)
        if asked.gpus:
            environment.pop("CUDA_VISIBLE_DEVICES", None)  # which ones there are on the node is Ray's to say
        document = {
            "entrypoint": "exec " + shlex.join(keeper_command(launch.folder)),
            "submission_id": launch.token,
            "runtime_env": {"env_vars": environment},
            "entrypoint_num_cpus": asked.cpus,
            "entrypoint_num_gpus": asked.gpus,
            "metadata": {"sluice_job": launch.job.name},
        }
        if asked.memory_mib:
            document["entrypoint_memory"] = asked.memory_mib << 20
        return RayHandle(self._address, launch.folder, launch.token, document)

    def find(self, folder: Path, token: str) -> RayHandle:
        return RayHandle(self._address, folder, token, None)


class RayHandle:
    """One attempt; `submission` is what is still to be sent."""

    def __init__(self, address: str, folder: Path, token: str, submission: dict[str, Any] | None) -> None:
        self._address = address
        self._folder = folder
        self._token = token
        self._submission = submission

    async def ended(self) -> Mapping[str, Any] | None:
        if self._submission is not None and (refusal := await asyncio.to_thread(self._submit)) is not None:
            return _cannot_start(refusal)
        over = 0
        while True:
            record = files.read_json(self._folder / contract.EXIT)
            if record is not None:
                return record
            # Asked a few times more when it is over: a shared folder may show the record later than Ray the end.
            over += await asyncio.to_thread(self._status) in _OVER
            if over > _LAST_LOOKS:
                self.stop(contract.EVICT, 0)
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await asyncio.Event().wait()

    def stop(self, why: str, grace_s: float, detail: str = "") -> None:
        # The keeper looks at its folder ten times a second.
        document = {"why": why, "grace_s": grace_s, "detail": detail}
        files.replace(self._folder / contract.STOP, json.dumps(document).encode())

    def close(self) -> None:
        """There is nothing to let go of."""

    def _submit(self) -> str | None:
        """Returns why the cluster will not run it, None if it will."""
        try:
            self._call("POST", "/api/jobs/", self._submission)
        except urllib.error.HTTPError as error:
            return f"Ray refuses it: {error.read(500).decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            return f"the Ray cluster at {self._address} does not answer: {error}"
        return None

    def _status(self) -> str:
        """Returns what Ray says; what it never heard of is over, and when it does not answer nothing is known."""
        try:
            return str(self._call("GET", f"/api/jobs/{self._token}").get("status"))
        except urllib.error.HTTPError as error:
            error.close()
            return "STOPPED" if error.code == 404 else "UNKNOWN"
        except (OSError, ValueError, http.client.HTTPException):
            return "UNKNOWN"

    def _call(self, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            self._address + path, body, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            return json.loads(response.read())


def _cannot_start(detail: str) -> dict[str, Any]:
    return {"exit_code": contract.EXIT_CANNOT_START, "signal": None, "why": None, "detail": detail[:2000],
            "kernel_oom": False, "said_oom": False}  # fmt: skip
