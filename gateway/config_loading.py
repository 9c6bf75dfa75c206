"""Makes a `Config` from the TOML file, the environment and the command line, in rising order of precedence.

Decides how a setting is spelled in each of the three, and what is wrong with a value. Invariants: all problems are
found before anything is reported; a problem names the setting by its dotted path and where the value came from; an
unknown key is a problem, with the likely spelling; secrets come from the environment (or from files named there).

In the environment, `server.rest_port` is `SLUICE__SERVER__REST_PORT`: double underscores separate, case does not
matter. Values there and in `--set` are read as TOML values (`9000`, `true`, `["a:1", "b:1"]`), else as strings.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.config import SECTIONS, Config, ModelConfig
from gateway.config_checks import cross_check, is_model_name
from gateway.config_rules import Rule, rule_of

ENVIRONMENT_PREFIX = "SLUICE__"
MAX_FILE_BYTES = 1 << 20
_MODELS = "models"


class ConfigError(ValueError):
    """The configuration cannot be used; `problems` has one sentence for everything that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class _Given:
    """One value that somebody gave: where it stands (for messages), its value, and its raw text if it has one."""

    __slots__ = ("folder", "raw", "value", "where")

    def __init__(self, where: str, value: object, *, raw: str | None = None, folder: Path | None = None) -> None:
        self.where = where
        self.value = value
        self.raw = raw
        self.folder = folder


_Values = dict[tuple[str, ...], _Given]


def load(
    path: str | Path | None,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
) -> Config:
    """Returns the configuration from the file at `path` (None: no file), `environ` and `overrides` ("a.b=value").

    Raises:
        ConfigError: with every problem found.
    """
    problems: list[str] = []
    given: _Values = {}
    if path is not None:
        _read_file(Path(path), given, problems)
    models = {key[1] for key in given if key[0] == _MODELS}
    for name, text in sorted((environ or {}).items()):
        if name.upper().startswith(ENVIRONMENT_PREFIX):
            parts = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
            _add(given, _model_key(parts, "__", models), _scalar(name, text), problems)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals:
            problems.append(f"--set {override}: write key=value, such as --set server.rest_port=9000")
            continue
        _add(given, _model_key(tuple(name.strip().split(".")), "."), _scalar(f"--set {name}", text), problems)
    config = _build(given, problems)
    if config is not None:
        problems += cross_check(config)
    if problems or config is None:
        raise ConfigError(problems)
    return config


def admin_token(config: Config) -> str | None:
    """Returns the admin listener's bearer token, or None if there is none.

    Raises:
        ConfigError: the file that should hold it cannot be read or is empty.
    """
    security = config.security
    if not security.admin_token_file:
        return security.admin_token or None
    try:
        token = Path(security.admin_token_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError([f"security.admin_token_file: cannot read {security.admin_token_file}: {reason}"]) from error
    if not token:
        raise ConfigError([f"security.admin_token_file: {security.admin_token_file} is empty"])
    return token


def check_files(config: Config) -> None:
    """Returns if every file that the configuration names for reading can be read.

    Raises:
        ConfigError: with every file that cannot.
    """
    problems = []
    for setting in ("tls_cert", "tls_key"):
        name = getattr(config.server, setting)
        try:
            if name:
                Path(name).open("rb").close()
        except OSError as error:
            problems.append(f"server.{setting}: cannot read {name}: {error.strerror}")
    try:
        admin_token(config)
    except ConfigError as error:
        problems += error.problems
    if problems:
        raise ConfigError(problems)


# ---------------------------------------------------------------------- gathering


def _read_file(path: Path, given: _Values, problems: list[str]) -> None:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return
    if len(content) > MAX_FILE_BYTES:
        problems.append(f"{path}: is larger than {MAX_FILE_BYTES} bytes")
        return
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8 text")
        return
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: {error}")
        return
    folder = path.absolute().parent
    for section, body in document.items():
        if not isinstance(body, dict):
            _add(given, (section,), _Given(str(path), body, folder=folder), problems)
            continue
        for key, value in body.items():
            if section == _MODELS and isinstance(value, dict):
                if not value:
                    given[(_MODELS, key)] = _Given(str(path), value)
                for inner, leaf in value.items():
                    _add(given, (section, key, inner), _Given(str(path), leaf, folder=folder), problems)
            else:
                _add(given, (section, key), _Given(str(path), value, folder=folder), problems)


def _model_key(parts: tuple[str, ...], separator: str, known: Iterable[str] = ()) -> tuple[str, ...]:
    """Returns `parts` with a model's name as one part: names may contain the separator.

    `known` names are matched whatever their case, because the environment's spelling lost it.
    """
    if len(parts) < 3 or parts[0] != _MODELS:
        return parts
    name = separator.join(parts[1:-1])
    same = [candidate for candidate in known if candidate.lower() == name.lower()]
    return (_MODELS, same[0] if same else name, parts[-1])


def _scalar(where: str, text: str) -> _Given:
    """Returns the text as a TOML value where it is one, else as a string."""
    try:
        parsed = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        parsed = {}
    return _Given(where, parsed["value"] if len(parsed) == 1 else text, raw=text)


def _add(given: _Values, key: tuple[str, ...], value: _Given, problems: list[str]) -> None:
    """Keeps `value` under `key` if there is such a setting."""
    dotted = ".".join(key)
    section = key[0]
    if section not in SECTIONS and section != _MODELS:
        problems.append(f"{value.where}: unknown section '{section}'{_suggest(section, (*SECTIONS, _MODELS))}")
        return
    expected = 3 if section == _MODELS else 2
    if len(key) != expected:
        form = "models.<name>.<setting>" if section == _MODELS else f"{section}.<setting>"
        problems.append(f"{value.where}: '{dotted}' is not a setting; settings there are spelled {form}")
        return
    if section == _MODELS and not is_model_name(key[1]):
        problems.append(f"{value.where}: models.{key[1]}: '{key[1]}' cannot be a model's name")
        return
    settings = [setting.name for setting in dataclasses.fields(_section_class(section))]
    if key[-1] not in settings:
        problems.append(f"{value.where}: unknown setting '{dotted}'{_suggest(key[-1], settings)}")
        return
    given[key] = value


def _suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f" (known: {', '.join(known)})"


# ---------------------------------------------------------------------- building


def _section_class(section: str) -> type[Any]:
    if section == _MODELS:
        return ModelConfig
    found: type[Any] = typing.get_type_hints(Config)[section]
    return found


def _build(given: _Values, problems: list[str]) -> Config | None:
    before = len(problems)
    sections: dict[str, Any] = {}
    for section in SECTIONS:
        own = {key[1]: value for key, value in given.items() if key[0] == section}
        sections[section] = _section(_section_class(section), section, own, problems)
    names = dict.fromkeys(key[1] for key in given if key[0] == _MODELS)
    models = {}
    for name in names:
        own = {key[2]: value for key, value in given.items() if key[:2] == (_MODELS, name) and len(key) == 3}
        models[name] = _section(ModelConfig, f"{_MODELS}.{name}", own, problems)
    if len(problems) > before:
        return None
    return Config(**sections, models=MappingProxyType(models))


def _section(cls: type[Any], dotted: str, own: Mapping[str, _Given], problems: list[str]) -> Any:
    hints = typing.get_type_hints(cls)
    values = {}
    for setting in dataclasses.fields(cls):
        if (given := own.get(setting.name)) is None:
            continue
        try:
            values[setting.name] = _value(hints[setting.name], rule_of(setting), given)
        except ValueError as error:
            problems.append(f"{given.where}: {dotted}.{setting.name} {error}")
    return cls(**values)


def _value(hint: Any, rule: Rule, given: _Given) -> object:
    """Returns the given value as the setting's type. Raises ValueError saying what it must be."""
    kind = typing.get_origin(hint) or hint
    value = given.value
    if kind is tuple:
        return _tuple(typing.get_args(hint)[0], rule, given)
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {_shown(value, rule)}")
        return value
    if kind is int or int in typing.get_args(hint):
        return _integer(value, rule)
    if given.raw is not None and not isinstance(value, str):
        value = given.raw  # a token "123" or a folder named 2024 is a string all the same
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {_shown(value, rule)}")
    if rule.secret and given.folder is not None:
        raise ValueError("is a secret and may not stand in the file: name a file with admin_token_file, or use the "
                         "environment")  # fmt: skip
    if rule.secret and given.where.startswith("--set"):
        raise ValueError("is a secret and may not stand on the command line, where others see it")
    if rule.choices and value not in rule.choices:
        raise ValueError(f"must be one of {', '.join(rule.choices)}, not '{value}'{_suggest(value, rule.choices)}")
    if rule.path and value not in ("", "-") and "://" not in value:  # an address is not made a path, see cross_check
        expanded = Path(value).expanduser()
        return str(given.folder / expanded if given.folder is not None else expanded)
    return value


def _integer(value: object, rule: Rule) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be an integer, not {_shown(value, rule)}")
    if rule.minimum is not None and value < rule.minimum:
        raise ValueError(f"must be at least {rule.minimum}, not {value}")
    if rule.maximum is not None and value > rule.maximum:
        raise ValueError(f"must be at most {rule.maximum}, not {value}")
    return value


def _tuple(item: type[Any], rule: Rule, given: _Given) -> tuple[Any, ...]:
    value = given.value
    if isinstance(value, str) and given.raw is not None:
        value = [part.strip() for part in value.split(",") if part.strip()]
        if item is int:
            value = [int(part) if part.removeprefix("-").isdecimal() else part for part in value]
    elif given.raw is not None and not isinstance(value, list):
        value = [value]
    if not isinstance(value, list):
        raise ValueError(f"must be a list, not {_shown(value, rule)}")
    if item is int:
        return tuple(_integer(entry, rule) for entry in value)
    if not all(isinstance(entry, str) for entry in value):
        raise ValueError("must be a list of strings")
    return tuple(value)


def _shown(value: object, rule: Rule) -> str:
    return "what was given" if rule.secret else repr(value)[:80]
