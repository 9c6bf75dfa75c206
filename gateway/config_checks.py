"""What single settings cannot show: settings that contradict each other.

Decides which combinations make sense. Every problem is one sentence that names the settings concerned.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator

from gateway.config import Config
from gateway.registry.layout import is_model_name

_BUCKET = re.compile(r"s3://[A-Za-z0-9._-]+(?:/[^?#]*)?")
_OWNER = re.compile(r"[a-z0-9-]{1,32}")
_CAPABILITY = re.compile(r"[0-9]{1,2}\.[0-9]")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+){1,3}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def cross_check(config: Config) -> list[str]:
    """Returns everything that is wrong with the combination of settings; empty if nothing is."""
    return [
        *_server(config),
        *_registry(config),
        *_triton(config),
        *_batching(config),
        *_telemetry(config),
        *_security(config),
    ]


def _server(config: Config) -> Iterator[str]:
    server = config.server
    if bool(server.tls_cert) != bool(server.tls_key):
        yield "server.tls_cert and server.tls_key: give both, or neither"
    if server.tls_cert and server.grpc_engine == "grpcio":
        yield ('server.tls_cert would not protect gRPC with server.grpc_engine = "grpcio", which speaks no TLS here: '
               'set server.grpc_engine = "native", or leave server.tls_cert empty')  # fmt: skip
    if server.default_timeout_ms > server.max_timeout_ms:
        yield (f"server.default_timeout_ms ({server.default_timeout_ms}) must not be larger than "
               f"server.max_timeout_ms ({server.max_timeout_ms})")  # fmt: skip
    for name, model in config.models.items():
        if model.default_timeout_ms is not None and model.default_timeout_ms > server.max_timeout_ms:
            yield (f"models.{name}.default_timeout_ms ({model.default_timeout_ms}) must not be larger than "
                   f"server.max_timeout_ms ({server.max_timeout_ms})")  # fmt: skip
    ports = [("server.rest_port", server.rest_port), ("server.grpc_port", server.grpc_port),
             ("server.admin_port", server.admin_port)]  # fmt: skip
    if config.triton.mode == "embedded":
        triton = config.triton
        ports += [("triton.http_port", triton.http_port), ("triton.grpc_port", triton.grpc_port),
                  ("triton.metrics_port", triton.metrics_port)]  # fmt: skip
    seen: dict[int, str] = {}
    for name, port in ports:
        if port and port in seen:
            yield f"{seen[port]} and {name} are both {port}"
        seen.setdefault(port, name)
    if server.ready_policy == "listed" and not server.ready_models:
        yield 'server.ready_models must name at least one model when server.ready_policy = "listed"'
    if server.ready_models and server.ready_policy != "listed":
        yield 'server.ready_models has no effect unless server.ready_policy = "listed"'
    for setting in ("host", "admin_host"):
        value = getattr(server, setting)
        if (not value and setting == "host") or any(c.isspace() or c == "/" for c in value):
            yield f"server.{setting}: '{value}' is not an address or host name"


def _registry(config: Config) -> Iterator[str]:
    root = config.registry.root
    if "://" in root:
        if not _BUCKET.fullmatch(root):
            shown = "what stands there" if "@" in root else f"'{root}'"  # perhaps with a password
            yield f"registry.root: {shown} is neither a folder nor s3://bucket/prefix"
        elif importlib.util.find_spec("obstore") is None:
            yield "registry.root: a registry in a bucket needs: pip install 'sluice[s3]'"


def _triton(config: Config) -> Iterator[str]:
    triton = config.triton
    if triton.mode == "embedded" and triton.source == "triton":
        yield 'triton.source = "triton" needs triton.mode = "remote": an embedded Triton serves what the registry says'
    if triton.mode == "remote" and not triton.addresses:
        yield 'triton.addresses must name at least one Triton when triton.mode = "remote"'
    if triton.owner and _OWNER.fullmatch(triton.owner) is None:
        yield f"triton.owner: '{triton.owner}' must be 1 to 32 of the letters a to z, digits and dashes"
    for address in triton.addresses:
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match[1]) < 65536:
            yield f"triton.addresses: '{address}' is not host:port (such as 127.0.0.1:8001)"
    if len(set(triton.addresses)) != len(triton.addresses):
        yield "triton.addresses names one Triton twice"
    for capability in triton.compute_capabilities:
        if _CAPABILITY.fullmatch(capability) is None:
            yield f"triton.compute_capabilities: '{capability}' is not a compute capability (such as 9.0)"
    if triton.tensorrt_version and _VERSION.fullmatch(triton.tensorrt_version) is None:
        yield f"triton.tensorrt_version: '{triton.tensorrt_version}' is not a version (such as 10.13.2)"
    if triton.mode == "embedded" and (triton.compute_capabilities or triton.tensorrt_version):
        yield ("triton.compute_capabilities and triton.tensorrt_version are about remote Tritons: what the embedded "
               "one has is found out")  # fmt: skip
    if triton.mode == "embedded" and not triton.work_folder:
        yield "triton.work_folder must not be empty"


def _batching(config: Config) -> Iterator[str]:
    for name in ("", *config.models):
        batching = config.batching_for(name)
        where = f"models.{name}" if name else "batching"
        if batching.max_batch_size > batching.max_queue_rows:
            yield (f"{where}: max_batch_size ({batching.max_batch_size}) is larger than max_queue_rows "
                   f"({batching.max_queue_rows}); such a batch could never fill")  # fmt: skip


def _telemetry(config: Config) -> Iterator[str]:
    buckets = config.telemetry.latency_buckets_us
    if not buckets or list(buckets) != sorted(set(buckets)):
        yield "telemetry.latency_buckets_us must be a rising list with at least one value"
    if len(buckets) > 100:
        yield "telemetry.latency_buckets_us may have 100 values at most"


def _security(config: Config) -> Iterator[str]:
    security = config.security
    if security.admin_token and security.admin_token_file:
        yield "security.admin_token and security.admin_token_file: give one of them"


__all__ = ["cross_check", "is_model_name"]
