"""Runs `sluice quantize publish` many times in processes of their own, without importing everything anew each time.

Reads one JSON line a case, {"where", "number", "registry", "arguments"}; forks; the child signals itself with `number`
(or raises the OSError -`number`) when a stage or a step of the registry begins with `where`. Answers one JSON line:
{"code", "stdout", "stderr"}, the code negative for a signal. The parent imports, but starts no engine and no thread:
forking is safe.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import openvino

from gateway import cli
from gateway.registry.folder_store import FolderStore
from quantize import commands, evaluation, pipeline, progress, publish

WARM = (onnx, onnxruntime, openvino, commands, pipeline)


def child(case: dict[str, Any], stdout: int, stderr: int) -> int:
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    # As a shell would start it: who runs the tests in the background has SIGINT ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def reached(what: str) -> None:
        if what.startswith(case["where"]):
            if case["number"] < 0:
                raise OSError(-case["number"], os.strerror(-case["number"]))
            os.kill(os.getpid(), case["number"])

    evaluation.BLOCK_S, evaluation.ROUNDS = 0.001, 2
    progress.Progress.__call__ = lambda self, what, done, total: reached(what)  # type: ignore[method-assign]
    publish.open_store = lambda location: FolderStore(Path(location), reached)  # type: ignore[assignment]
    return cli.main(["quantize", "publish", "--registry", case["registry"], *case["arguments"]])


def main() -> None:
    for line in sys.stdin:
        case = json.loads(line)
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            pid = os.fork()
            if pid == 0:
                try:
                    code = child(case, stdout.fileno(), stderr.fileno())
                except SystemExit as ended:
                    code = int(ended.code or 0)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said = []
            for file in (stdout, stderr):
                file.seek(0)
                said.append(file.read().decode(errors="replace"))
        print(json.dumps({"code": code, "stdout": said[0], "stderr": said[1]}), flush=True)


if __name__ == "__main__":
    main()
