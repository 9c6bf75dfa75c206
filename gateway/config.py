"""The one typed configuration: every setting, its default, its unit, its bounds and its meaning.

Decides what can be configured. How values get here (file, environment, command line) is `config_loading`'s business,
how they are shown `config_printing`'s. docs/configuration.md is generated from this file.

Invariants: immutable; a `Config` that `load` returned satisfies every bound below; units stand in the names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from gateway.config_rules import port as _port
from gateway.config_rules import rule_of
from gateway.config_rules import setting as _setting

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_DAY_MS = 24 * 3600 * 1000


def _inherited(name: str) -> Any:
    """Returns a setting of one model that is unset, with the rule of the batching default of the same name."""
    return field(default=None, metadata={"rule": rule_of(BatchingConfig.__dataclass_fields__[name])})


# The tables below are laid out by hand: one or two lines a setting can be read, five cannot.
# fmt: off


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Addresses, protocols and time: what clients connect to, and how long they may wait."""

    host: str = _setting("127.0.0.1", "Address the REST and gRPC listeners bind. Loopback unless told otherwise; "
                         "\"0.0.0.0\" opens them to the network.")
    rest_port: int = _port(8000, "Port of REST.")
    grpc_port: int = _port(8001, "Port of gRPC.")
    admin_port: int = _port(8002, "Port of metrics, health, status page and admin API.")
    admin_host: str = _setting("", "Address the admin listener binds; empty means the same as host. Without an admin "
                               "token only loopback peers are answered, whatever it is.")
    grpc_engine: Literal["native", "grpcio"] = _setting(
        "native", "Which server speaks gRPC: our own transport, or the slower grpcio package (extra `grpcio`).",
        choices=("native", "grpcio"))
    ready_policy: Literal["all", "any", "listed"] = _setting(
        "all", "Which models must take requests for the gateway to be ready: all that should be served, any of them, "
        "or those in ready_models. Without models it is never ready.", choices=("all", "any", "listed"))
    ready_models: tuple[str, ...] = _setting((), "The models that ready_policy = \"listed\" waits for.")
    drain_delay_ms: int = _setting(
        0, "After SIGTERM: how long readiness says no while requests are still taken, so that balancers notice.",
        minimum=0, maximum=600_000)
    drain_grace_ms: int = _setting(
        30_000, "How long accepted requests may take to finish while stopping; then they are failed.",
        minimum=0, maximum=3_600_000)
    default_timeout_ms: int = _setting(
        30_000, "Deadline of a request whose client named none.", minimum=1, maximum=_DAY_MS)
    max_timeout_ms: int = _setting(
        300_000, "Latest deadline a client may ask for; later ones are shortened to it.", minimum=1, maximum=_DAY_MS)
    tls_cert: str = _setting("", "Certificate chain (PEM). With tls_key it turns TLS on for REST and gRPC.", path=True)
    tls_key: str = _setting("", "Private key (PEM) of tls_cert.", path=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsConfig:
    """Protection at the door. Where a listener is not named, the limit holds for REST and for gRPC alike."""

    max_header_bytes: int = _setting(16 * KIB, "Bytes of all headers of one request.", minimum=256, maximum=MIB)
    max_header_count: int = _setting(100, "Headers of one request.", minimum=8, maximum=10_000)
    max_body_bytes: int = _setting(64 * MIB, "Bytes of one request's body or message.", minimum=KIB, maximum=2 * GIB)
    max_json_bytes: int = _setting(
        16 * MIB, "Bytes of JSON in one REST request, also after decompression: reading JSON takes many times its size "
        "in memory. Binary tensors behind a JSON header do not count.", minimum=KIB, maximum=2 * GIB)
    header_timeout_ms: int = _setting(10_000, "Time a peer has for a complete head.", minimum=1, maximum=_DAY_MS)
    body_timeout_ms: int = _setting(
        30_000, "Time a peer has for a complete body, and for taking what it was sent.", minimum=1, maximum=_DAY_MS)
    rest_idle_timeout_ms: int = _setting(
        75_000, "A REST connection with nothing to do is closed after this.", minimum=1, maximum=_DAY_MS)
    grpc_idle_timeout_ms: int = _setting(
        300_000, "A gRPC connection with nothing to do is closed after this.", minimum=1, maximum=_DAY_MS)
    max_connections: int = _setting(1024, "Open connections of each listener.", minimum=1, maximum=1_000_000)
    max_pipelined_requests: int = _setting(
        64, "Requests of one REST connection being answered at a time.", minimum=1, maximum=10_000)
    max_streams_per_connection: int = _setting(
        1024, "Requests of one gRPC connection being answered at a time.", minimum=1, maximum=1_000_000)
    max_requests_in_flight: int = _setting(
        8192, "Requests accepted and not answered yet, all models and listeners together.",
        minimum=1, maximum=10_000_000)
    max_bytes_in_flight: int = _setting(
        GIB, "Tensor bytes of accepted requests not answered yet.", minimum=MIB, maximum=1024 * GIB)
    rest_buffered_bytes: int = _setting(
        GIB, "Bytes of incomplete REST bodies, all connections together.", minimum=MIB, maximum=1024 * GIB)
    grpc_buffered_bytes: int = _setting(
        256 * MIB, "Bytes of incomplete messages, and separately of answers not taken, of one gRPC connection.",
        minimum=MIB, maximum=1024 * GIB)
    grpc_total_buffered_bytes: int = _setting(
        GIB, "Bytes of incomplete gRPC messages, all connections together.", minimum=MIB, maximum=1024 * GIB)
    grpc_stream_window_bytes: int = _setting(
        16 * MIB, "HTTP/2 flow-control window of one stream.", minimum=65_535, maximum=2 * GIB - 1)
    grpc_connection_window_bytes: int = _setting(
        64 * MIB, "HTTP/2 flow-control window of one connection.", minimum=65_535, maximum=2 * GIB - 1)
    grpc_max_frame_bytes: int = _setting(
        MIB, "Largest HTTP/2 frame taken.", minimum=16_384, maximum=16 * MIB - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryConfig:
    """Where the models come from."""

    root: str = _setting("model_repo", "The registry: a folder, or s3://bucket/prefix (extra `s3`), to which the usual "
                         "AWS_... variables lead.", path=True)
    poll_interval_ms: int = _setting(
        1_000, "How often the registry is looked at for changes, more or less: looks are spread by a tenth at random.",
        minimum=100, maximum=_DAY_MS)
    cache_folder: str = _setting(
        "", "Where verified copies of the versions in use are kept, so that a restart serves without the registry; "
        "belongs to one gateway. Empty: the folder `registry` in triton.work_folder.", path=True)
    swap_policy: Literal["availability", "resource"] = _setting(
        "availability", "\"availability\" loads the new version before the old one leaves; \"resource\" takes the old "
        "one away first, on one Triton at a time, for memory that cannot hold both.",
        choices=("availability", "resource"))
    allow_breaking: bool = _setting(
        False, "Serve a new version although it would break callers of the one before: inputs or outputs renamed, "
        "retyped or reshaped.")
    drain_limit_ms: int = _setting(
        60_000, "Time a version that was replaced has to answer what it has accepted; then the rest is failed.",
        minimum=0, maximum=_DAY_MS)
    orphan_age_ms: int = _setting(
        10_000, "How long a loaded version that an earlier gateway left in a Triton, and that nobody wants, must have "
        "been seen before it is unloaded.", minimum=0, maximum=_DAY_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonConfig:
    """The Triton servers that execute."""

    mode: Literal["embedded", "remote"] = _setting(
        "embedded", "\"embedded\" starts a Triton of our own as a child process, \"remote\" uses running ones.",
        choices=("embedded", "remote"))
    addresses: tuple[str, ...] = _setting(("127.0.0.1:8001",), "gRPC addresses (host:port) of remote Tritons.")
    source: Literal["registry", "triton"] = _setting(
        "registry", "Which models are served: what the registry says, or (remote mode only) what Triton has loaded.",
        choices=("registry", "triton"))
    owner: str = _setting(
        "", "Name of this gateway in remote Tritons: models loaded there end in it, and those of other names are never "
        "touched. Empty: made of the machine's name and registry.cache_folder. Set it where these change at a restart "
        "(a gateway that comes back under another name leaves its models loaded). Letters a to z, digits, dashes.")
    connections: int = _setting(1, "gRPC connections to each Triton.", minimum=1, maximum=64)
    load_timeout_ms: int = _setting(
        120_000, "Time one load or unload of a version may take on a Triton, pushing its files included.",
        minimum=1_000, maximum=_DAY_MS)
    environment: str = _setting(
        "", "Python environment of the embedded Triton; empty: $SLUICE_TRITON_ENV, else ./.venv-triton.", path=True)
    compute_capabilities: tuple[str, ...] = _setting((), "Of remote Tritons' GPUs (\"9.0\"). Embedded: found out.")
    tensorrt_version: str = _setting("", "Of remote Tritons, exactly (\"10.13.2\"); empty: none. Embedded: found out.")
    work_folder: str = _setting(
        ".sluice/triton", "Where the embedded Triton keeps its log, state and rendered models; belongs to one gateway.",
        path=True)
    http_port: int = _port(18000, "Port of the embedded Triton's REST (loopback).")
    grpc_port: int = _port(18001, "Port of the embedded Triton's gRPC (loopback).")
    metrics_port: int = _port(18002, "Port of the embedded Triton's metrics (loopback).")
    ready_timeout_ms: int = _setting(60_000, "Time the embedded Triton has to become ready.",
                                     minimum=1_000, maximum=3_600_000)
    stop_grace_ms: int = _setting(10_000, "Time the embedded Triton has to stop before it is killed.",
                                  minimum=0, maximum=3_600_000)
    hang_timeout_ms: int = _setting(
        30_000, "Time after which an embedded Triton that gives no sign of life is killed and restarted.",
        minimum=1_000, maximum=3_600_000)
    realtime_swaps: bool = _setting(
        True, "While a version of the embedded Triton is loaded or unloaded, and 2 s longer, the event loop and "
        "Triton's own threads run in SCHED_RR, if the system permits it (CAP_SYS_NICE or RLIMIT_RTPRIO) and has two "
        "processors.")
    shared_memory_bytes: int = _setting(
        64 * MIB, "Memory through which large batches reach the embedded Triton, at most a quarter of what is free in "
        "/dev/shm; made when first needed. 0: everything travels in messages.", minimum=0, maximum=16 * GIB)
    log_bytes: int = _setting(8 * MIB, "Size at which the embedded Triton's log is rotated at a start.",
                              minimum=64 * KIB, maximum=GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchingConfig:
    """How requests are batched, for every model that does not say otherwise under models.<name>."""

    max_batch_size: int = _setting(
        0, "Rows of one batch at most; 0 means as many as the model itself allows, which is never exceeded.",
        minimum=0, maximum=1_000_000)
    max_batch_bytes: int = _setting(64 * MIB, "Tensor bytes of one batch at most.", minimum=KIB, maximum=2 * GIB)
    max_queue_rows: int = _setting(4096, "Rows that may wait for one model version.", minimum=1, maximum=100_000_000)
    max_queue_bytes: int = _setting(
        256 * MIB, "Tensor bytes that may wait for one model version.", minimum=KIB, maximum=1024 * GIB)
    max_queue_delay_ms: int = _setting(
        0, "How long a batch that could still grow may be held back while the model is busy. Batches of "
        "slow models, and of very quick ones, are held back without it where that pays.", minimum=0, maximum=60_000)
    slots_per_instance: int = _setting(
        2, "Batches in flight for each instance of a model: one running, the others staged.", minimum=1, maximum=64)
    default_priority: int = _setting(
        2, "Priority of a request that names none; 1 is the most urgent.", minimum=1, maximum=8)
    priority_step_ms: int = _setting(
        1_000, "How much later a deadline counts for each step of lower priority.", minimum=0, maximum=_DAY_MS)
    min_gain_percent: int = _setting(
        3, "Throughput a larger batch must promise over a smaller one to be formed; 0 always takes the larger.",
        minimum=0, maximum=100)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What one model does differently; a setting that is left out is taken from batching (or server)."""

    max_batch_size: int | None = _inherited("max_batch_size")
    max_batch_bytes: int | None = _inherited("max_batch_bytes")
    max_queue_rows: int | None = _inherited("max_queue_rows")
    max_queue_bytes: int | None = _inherited("max_queue_bytes")
    max_queue_delay_ms: int | None = _inherited("max_queue_delay_ms")
    slots_per_instance: int | None = _inherited("slots_per_instance")
    default_priority: int | None = _inherited("default_priority")
    priority_step_ms: int | None = _inherited("priority_step_ms")
    min_gain_percent: int | None = _inherited("min_gain_percent")
    default_timeout_ms: int | None = _setting(
        None, "Deadline of a request for this model whose client named none.", minimum=1, maximum=_DAY_MS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """What the gateway says about itself."""

    access_log: str = _setting(
        ".sluice/access.log", "File for one JSON line a request; \"-\" is standard output, empty is off.", path=True)
    access_log_lines_per_second: int = _setting(
        1_000, "Lines written at most; one line then says how many were left out.", minimum=1, maximum=100_000)
    access_log_repeats_per_second: int = _setting(
        10, "Lines written at most for failures of one model with one code.", minimum=1, maximum=100_000)
    access_log_bytes: int = _setting(
        64 * MIB, "Size at which the access log is rotated.", minimum=64 * KIB, maximum=64 * GIB)
    access_log_files: int = _setting(3, "Rotated access logs kept.", minimum=0, maximum=100)
    latency_buckets_us: tuple[int, ...] = _setting(
        (250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
         10_000_000), "Upper bounds of the latency histograms, rising, in microseconds.", minimum=1, maximum=10**10)
    max_version_series: int = _setting(
        200, "Model versions with metrics of their own; further ones share the label \"_other\".",
        minimum=1, maximum=10_000)
    drift_sample_every: int = _setting(
        16, "One request in so many is compared with calibration (docs/drift.md); 0: none.", minimum=0, maximum=10**6)
    loop_probe_ms: int = _setting(
        100, "How often the event loop's lag is measured.", minimum=10, maximum=60_000)
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", "Least severe messages of the process log (standard error).",
        choices=("debug", "info", "warning", "error"))
    log_format: Literal["auto", "text", "json"] = _setting(
        "auto", "Form of the process log; \"auto\" is text on a terminal and JSON lines elsewhere.",
        choices=("auto", "text", "json"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """Who may use the admin listener. Without a token, only peers on this machine."""

    admin_token: str = _setting("", "Bearer token of the admin listener. From the environment only.", secret=True)
    admin_token_file: str = _setting("", "File with that token.", path=True)


# fmt: on


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `Config()` is what runs without a file."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    registry: RegistryConfig = RegistryConfig()
    triton: TritonConfig = TritonConfig()
    batching: BatchingConfig = BatchingConfig()
    models: Mapping[str, ModelConfig] = field(default_factory=lambda: MappingProxyType({}))
    telemetry: TelemetryConfig = TelemetryConfig()
    security: SecurityConfig = SecurityConfig()

    def batching_for(self, model_name: str) -> BatchingConfig:
        """Returns the batching of one model: the defaults with that model's own settings over them."""
        model = self.models.get(model_name)
        if model is None:
            return self.batching
        names = [setting.name for setting in dataclasses.fields(BatchingConfig)]
        own = {name: value for name in names if (value := getattr(model, name)) is not None}
        return dataclasses.replace(self.batching, **own)

    def default_timeout_ms_for(self, model_name: str) -> int:
        """Returns the deadline (a span in ms) of a request for that model whose client named none."""
        model = self.models.get(model_name)
        own = model.default_timeout_ms if model is not None else None
        return self.server.default_timeout_ms if own is None else own

    @property
    def admin_host(self) -> str:
        """The address the admin listener binds."""
        return self.server.admin_host or self.server.host


SECTIONS = ("server", "limits", "registry", "triton", "batching", "telemetry", "security")
"""The sections that are plain tables; `models` is a table of tables."""
