"""The configuration: where values come from, what is refused, and how it is shown."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import SECTIONS, Config, ModelConfig, rule_of
from gateway.config_loading import ConfigError, admin_token, load
from gateway.config_printing import WITHHELD, as_dict, changed, effective, literal


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return path


def problems(path: Path | None, environ: dict[str, str] | None = None, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ, overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_without_a_file_every_value_is_the_default() -> None:
    assert load(None) == Config()
    assert changed(load(None, {"PATH": "/bin", "SLUICE_TRITON_ENV": "/x"})) == []


def test_every_default_keeps_its_own_rule() -> None:
    for section in SECTIONS:
        for setting in dataclasses.fields(getattr(Config(), section)):
            rule, value = rule_of(setting), setting.default
            assert rule.doc.strip()
            for single in value if isinstance(value, tuple) else (value,):
                if isinstance(single, int) and not isinstance(single, bool):
                    assert rule.minimum is not None, f"{section}.{setting.name} has no lower bound"
                    assert rule.maximum is not None, f"{section}.{setting.name} has no upper bound"
                    assert rule.minimum <= single <= rule.maximum
            if rule.choices:
                assert value in rule.choices


def test_file_environment_and_command_line_in_rising_order(tmp_path: Path) -> None:
    path = write(tmp_path, "[server]\nrest_port = 1\ngrpc_port = 2\nadmin_port = 3\n")
    environ = {"SLUICE__SERVER__GRPC_PORT": "20", "sluice__server__admin_port": "30"}
    server = load(path, environ, ["server.admin_port=300"]).server
    assert (server.rest_port, server.grpc_port, server.admin_port) == (1, 20, 300)


def test_all_problems_at_once_with_dotted_paths_and_suggestions(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
[server]
rest_prt = 1
grpc_port = 70000
drain_grace_ms = "soon"
[triton]
mode = "remot"
[models.resnet]
max_batch_size = true
max_batch_sise = 1
[sever]
host = "x"
""",
    )
    found = problems(path, {"SLUICE__LIMITS__MAX_CONNECTIONS": "0", "SLUICE__NO": "1"}, ("limits.max_body=1", "x"))
    text = "\n".join(found)
    for expected in (
        "unknown setting 'server.rest_prt'; did you mean 'rest_port'?",
        "server.grpc_port must be at most 65535, not 70000",
        "server.drain_grace_ms must be an integer, not 'soon'",
        "triton.mode must be one of embedded, remote, not 'remot'; did you mean 'remote'?",
        "models.resnet.max_batch_size must be an integer, not True",
        "unknown setting 'models.resnet.max_batch_sise'; did you mean 'max_batch_size'?",
        "unknown section 'sever'; did you mean 'server'?",
        "SLUICE__LIMITS__MAX_CONNECTIONS: limits.max_connections must be at least 1, not 0",
        "SLUICE__NO: unknown section 'no'",
        "--set limits.max_body: unknown setting 'limits.max_body'",
        "--set x: write key=value",
    ):
        assert expected in text, expected
    assert len(found) == 11


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server = 3", "'server' is not a setting"),
        ("[server.rest]\nport = 1", "unknown setting 'server.rest'"),
        ("[models]\nresnet = 1", "'models.resnet' is not a setting"),
        ('[models."a/b"]\nmax_batch_size = 1', "cannot be a model's name"),
        ("[server]\nhost = 1", "server.host must be a string, not 1"),
        ("[triton]\naddresses = 'a:1'", "triton.addresses must be a list"),
        ("[triton]\naddresses = [1]", "must be a list of strings"),
        ("[server\n", "gateway.toml:"),
        ("[server]\ntls_cert = 'a'", "server.tls_cert and server.tls_key: give both"),
        ("[server]\nhost = ''", "server.host: '' is not an address"),
        ("[server]\nrest_port = 8001", "server.rest_port and server.grpc_port are both 8001"),
        ("[server]\nrest_port = 18000", "server.rest_port and triton.http_port are both 18000"),
        ("[server]\ndefault_timeout_ms = 400000", "server.default_timeout_ms (400000) must not be larger"),
        ("[models.a]\ndefault_timeout_ms = 400000", "models.a.default_timeout_ms (400000) must not be larger"),
        ("[triton]\nsource = 'triton'", 'triton.source = "triton" needs triton.mode = "remote"'),
        ("[triton]\nmode = 'remote'\naddresses = []", "at least one Triton"),
        ("[triton]\naddresses = ['a:1', 'a:1']", "names one Triton twice"),
        ("[triton]\naddresses = ['http://a:1']", "is not host:port"),
        ("[triton]\naddresses = ['a:99999']", "is not host:port"),
        ("[telemetry]\nlatency_buckets_us = [5, 4]", "rising list"),
        ("[telemetry]\nlatency_buckets_us = []", "rising list"),
        ("[batching]\nmax_batch_size = 10\nmax_queue_rows = 9", "batching: max_batch_size (10) is larger"),
        ("[models.a]\nmax_queue_rows = 9\nmax_batch_size = 10", "models.a: max_batch_size (10) is larger"),
        ("[security]\nadmin_token = 'hush'", "may not stand in the file"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = "\n".join(problems(write(tmp_path, text)))
    assert expected in found
    assert "hush" not in found


def test_two_ports_of_zero_are_two_free_ports(tmp_path: Path) -> None:
    server = load(None, None, ["server.rest_port=0", "server.grpc_port=0", "server.admin_port=0"]).server
    assert (server.rest_port, server.grpc_port, server.admin_port) == (0, 0, 0)


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    assert "No such file" in problems(tmp_path / "absent.toml")[0]
    binary = tmp_path / "b.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in problems(binary)[0]
    huge = tmp_path / "h.toml"
    huge.write_bytes(b"#" * ((1 << 20) + 1))
    assert "is larger" in problems(huge)[0]


def test_values_of_the_environment_are_toml_or_strings() -> None:
    environ = {
        "SLUICE__TRITON__MODE": "remote",
        "SLUICE__TRITON__ADDRESSES": "a:1, [::1]:2",
        "SLUICE__TRITON__ENVIRONMENT": "2024",
        "SLUICE__SERVER__HOST": '"::1"',
        "SLUICE__TELEMETRY__LATENCY_BUCKETS_US": "[1, 2]",
        "SLUICE__SECURITY__ADMIN_TOKEN": "123",
    }
    config = load(None, environ)
    assert config.triton.addresses == ("a:1", "[::1]:2")
    assert config.triton.environment == "2024"
    assert config.server.host == "::1"
    assert config.telemetry.latency_buckets_us == (1, 2)
    assert config.security.admin_token == "123"
    assert load(None, {"SLUICE__TELEMETRY__LATENCY_BUCKETS_US": "7"}).telemetry.latency_buckets_us == (7,)
    assert load(None, {"SLUICE__TELEMETRY__LATENCY_BUCKETS_US": "7,8"}).telemetry.latency_buckets_us == (7, 8)
    assert "must be an integer" in problems(None, {"SLUICE__TELEMETRY__LATENCY_BUCKETS_US": "7,--8"})[0]
    # A value cannot smuggle in a second setting.
    assert load(None, {"SLUICE__TRITON__WORK_FOLDER": '"a"\nb = 1'}).triton.work_folder == '"a"\nb = 1'


def test_model_names_with_separators_and_capitals(tmp_path: Path) -> None:
    path = write(tmp_path, '[models."ResNet-50.v2"]\nmax_batch_size = 4\n[models.empty]\n')
    environ = {"SLUICE__MODELS__RESNET-50.V2__MAX_QUEUE_ROWS": "70", "SLUICE__MODELS__WIDE__DEEP__MAX_QUEUE_ROWS": "80"}
    config = load(path, environ, ["models.a.b.max_queue_rows=90"])
    assert config.models["ResNet-50.v2"] == ModelConfig(max_batch_size=4, max_queue_rows=70)
    assert config.models["wide__deep"].max_queue_rows == 80
    assert config.models["a.b"].max_queue_rows == 90
    assert config.models["empty"] == ModelConfig()


def test_a_model_inherits_what_it_does_not_set(tmp_path: Path) -> None:
    text = "[batching]\nmax_queue_rows = 50\nslots_per_instance = 3\n"
    config = load(write(tmp_path, text + "[models.a]\nmax_queue_rows = 70\ndefault_timeout_ms = 9\n"))
    assert config.batching_for("a").max_queue_rows == 70
    assert config.batching_for("a").slots_per_instance == 3
    assert config.batching_for("other") == config.batching
    assert config.default_timeout_ms_for("a") == 9
    assert config.default_timeout_ms_for("other") == config.server.default_timeout_ms


def test_paths_in_the_file_are_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[registry]\nroot = 'models'\n[telemetry]\naccess_log = '-'\n[triton]\nwork_folder = '/w'\n")
    config = load(path, {"SLUICE__TRITON__ENVIRONMENT": "env"}, ["server.tls_cert=~/c", "server.tls_key=k"])
    assert config.registry.root == str(tmp_path / "models")
    assert config.telemetry.access_log == "-"
    assert config.triton.work_folder == "/w"
    assert config.triton.environment == "env"
    assert config.server.tls_cert == str(Path.home() / "c")


def test_the_admin_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    assert admin_token(Config()) is None
    assert admin_token(load(None, {"SLUICE__SECURITY__ADMIN_TOKEN": "t"})) == "t"
    file = tmp_path / "token"
    file.write_text("secret\n")
    named = [f"security.admin_token_file={file}"]
    assert admin_token(load(None, None, named)) == "secret"
    assert "give one of them" in problems(None, {"SLUICE__SECURITY__ADMIN_TOKEN": "t"}, tuple(named))[0]
    assert "command line" in problems(None, None, ("security.admin_token=abc",))[0]
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        admin_token(load(None, None, named))
    with pytest.raises(ConfigError, match="No such file"):
        admin_token(load(None, None, [f"security.admin_token_file={tmp_path / 'absent'}"]))


def test_secrets_are_never_shown() -> None:
    config = load(None, {"SLUICE__SECURITY__ADMIN_TOKEN": "hush"})
    for shown in (effective(config), str(as_dict(config)), repr(config)):
        assert "hush" not in shown
    assert as_dict(config)["security"]["admin_token"] == WITHHELD


def test_the_effective_configuration_loads_to_itself(tmp_path: Path) -> None:
    overrides = ["server.rest_port=9000", "models.a.b.max_queue_rows=7", "triton.addresses=x:1,y:2"]
    config = load(None, None, overrides)
    shown = effective(config)
    assert "rest_port = 9000  # changed; the default is 8000" in shown
    assert "max_queue_rows = 7  # this model's own" in shown
    assert shown.count("# changed") == 2
    again = load(write(tmp_path, shown))
    assert (
        dataclasses.replace(again, registry=config.registry, triton=config.triton, telemetry=config.telemetry) == config
    )
    assert changed(config) == ["server.rest_port", "triton.addresses", "models.a.b.max_queue_rows"]


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",))))
def test_string_literals_are_toml(text: str) -> None:
    assert tomllib.loads(f"v = {literal(text)}")["v"] == text


def test_tls_without_effect_on_grpc_is_an_error() -> None:
    tls = ("server.tls_cert=/c", "server.tls_key=/k")
    (problem,) = problems(None, None, (*tls, "server.grpc_engine=grpcio"))
    assert "server.tls_cert" in problem
    assert 'server.grpc_engine = "grpcio"' in problem
    assert load(None, None, tls).server.grpc_engine == "native"


@pytest.mark.parametrize("source", ["file", "environment", "command line"])
def test_a_registry_in_a_bucket_is_no_path(tmp_path: Path, source: str) -> None:
    if source == "file":
        found = load(write(tmp_path, '[registry]\nroot = "s3://bucket/models"\n'))
    elif source == "environment":
        found = load(None, {"SLUICE__REGISTRY__ROOT": "s3://bucket/models"})
    else:
        found = load(None, None, ("registry.root=s3://bucket/models",))
    assert found.registry.root == "s3://bucket/models"


@pytest.mark.parametrize("root", ["http://host/models", "s3://", "s3:///models", "s3://key:secret@b/x", "gs://b/x"])
def test_other_places_are_refused(root: str) -> None:
    found = problems(None, None, (f"registry.root={root}",))
    (problem,) = found
    assert problem.startswith("registry.root: ")
    assert problem.endswith("is neither a folder nor s3://bucket/prefix")
    assert "secret" not in problem


def test_a_bucket_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert problems(None, None, ("registry.root=s3://b/x",)) == [
        "registry.root: a registry in a bucket needs: pip install 'sluice[s3]'"
    ]
