"""Real servers for the tests, from an environment of their own (`make setup` makes .venv-servers), on free ports.

SeaweedFS is the S3 server that counts, moto the quick one, rclone the one that ignores preconditions.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

SERVERS = Path(os.environ.get("SLUICE_TEST_SERVERS", ROOT / ".venv-servers"))
KEY, SECRET, BUCKET = "tests", "testing-only", "registry"
_START_S = 240.0


@dataclass(frozen=True, slots=True)
class S3:
    """A running S3 server with an empty bucket."""

    endpoint: str

    @property
    def settings(self) -> dict[str, str]:
        """What `ObjectStore` takes."""
        keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
        return {"endpoint": self.endpoint, **keys}

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}
        return {"AWS_ENDPOINT_URL": self.endpoint, **keys}


def program(name: str) -> str:
    path = SERVERS / "bin" / name
    assert path.exists(), f"{path} is missing: run `make setup`"
    return str(path)


def free_ports(count: int) -> list[int]:
    """Returns ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Ended(Exception):
    """A server ended before it answered; most likely somebody else took one of its ports."""


@contextmanager
def running(command: list[str], log: Path, url: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Runs a server until it answers at `url` with anything, and ends it afterwards."""
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, cwd=log.parent,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    try:
        deadline = time.time() + _START_S
        while not answers(url):
            if process.poll() is not None:
                raise Ended(log.read_text()[-3000:])
            assert time.time() < deadline, f"{command[0]} does not answer\n{log.read_text()[-3000:]}"
            process_ended(process, 0.1)
        yield
    finally:
        # The group was made for it: its own children only. Nothing of it is kept, so there is nothing to finish.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def process_ended(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3]:
    """Tries other ports if one of its eight was taken in the meantime."""
    with ExitStack() as stack:
        for left in (2, 1, 0):
            try:
                server = stack.enter_context(_seaweedfs(folder))
                break
            except Ended:
                if not left:
                    raise
        yield server


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[S3]:
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    s3, *ports = free_ports(8)
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    options = [f"-{name}={port}" for name, port in zip((*names, "s3.port.grpc"), ports, strict=True)]
    command = [
        program("weed"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.port={s3}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}", "-webdav=false",
        "-master.volumeSizeLimitMB=64", "-volume.max=8", *options,
    ]  # fmt: skip
    endpoint = f"http://127.0.0.1:{s3}"
    with running(command, folder / "weed.log", endpoint):
        make_bucket(endpoint)
        yield S3(endpoint)


@contextmanager
def moto(folder: Path) -> Iterator[S3]:
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    with running([program("moto_server"), "-H", "127.0.0.1", "-p", str(port)], folder / "moto.log", endpoint):
        make_bucket(endpoint)
        yield S3(endpoint)


@contextmanager
def rclone(folder: Path) -> Iterator[S3]:
    (port,) = free_ports(1)
    (folder / "data" / BUCKET).mkdir(parents=True)
    endpoint = f"http://127.0.0.1:{port}"
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    with running([*command, str(folder / "data")], folder / "rclone.log", endpoint, {"RCLONE_CONFIG": os.devnull}):
        yield S3(endpoint)


def make_bucket(endpoint: str) -> None:
    """Creates the bucket with boto3, which lives in the servers' environment; retried while the server gathers."""
    code = (
        "import boto3, sys\n"
        "from botocore.config import Config\n"
        "client = boto3.client('s3', endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2],\n"
        "    aws_secret_access_key=sys.argv[3], region_name='us-east-1', config=Config(retries={'max_attempts': 10}))\n"
        "client.create_bucket(Bucket=sys.argv[4])\n"
        "client.put_object(Bucket=sys.argv[4], Key='.ready', Body=b'1')\n"
        "client.delete_object(Bucket=sys.argv[4], Key='.ready')\n"
    )
    subprocess.run([program("python"), "-c", code, endpoint, KEY, SECRET, BUCKET], check=True, timeout=60)
