"""Finds a usable Triton on this machine and lays out its backend folder.

Triton lives in an environment of its own (`.venv-triton`, numpy 1.26) and is never imported: it is a server. This
module decides which files of that environment make it run and with which variables. Everything that is missing becomes
a `TritonSetupError` that names the command which mends it.

Invariants: nothing inside the environment is changed; the laid-out folder holds links only and may be rebuilt any time.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT_VARIABLE = "SLUICE_TRITON_ENV"
DEFAULT_FOLDER = ".venv-triton"

_SUPPORTED = ("3.11", "3.12", "3.13")
# (3.13 only where somebody built numpy 1.26 for it: PyPI has no such wheel.)
_PROBE_TIMEOUT_S = 30
# Runs in the environment's interpreter; prints what the layout depends on. sysconfig knows where a shared libpython
# would be, also for interpreters built by pyenv, uv or the distribution.
_PROBE = """
import importlib.metadata as metadata, json, os, sys, sysconfig
def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
var = sysconfig.get_config_var
short = "%d.%d" % sys.version_info[:2]
base = os.path.realpath(sys.base_prefix)
executable = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
folders = [var("LIBDIR"), os.path.join(base, "lib"), os.path.join(executable, "lib")]
if var("LIBDIR") and var("MULTIARCH"):
    folders.append(os.path.join(var("LIBDIR"), var("MULTIARCH")))
    folders.append(os.path.join("/usr/lib", var("MULTIARCH")))
folders.append("/usr/lib64")
print(json.dumps({
    "python": short,
    "base": base,
    "libpython": "libpython%s.so.1.0" % short,
    "folders": [f for f in dict.fromkeys(folders) if f],
    "purelib": sysconfig.get_path("purelib"),
    "pytriton": version("nvidia-pytriton"),
    "numpy": version("numpy"),
}))
"""


class TritonSetupError(RuntimeError):
    """Triton cannot be used on this machine as it stands; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonEnvironment:
    """A Triton that can be started.

    `python` is the environment's interpreter, `server` the tritonserver binary, `backends` the folder for
    `--backend-directory`, `library_path` the folders that must come first on LD_LIBRARY_PATH.
    """

    folder: Path
    python: Path
    python_version: str
    server: Path
    backends: Path
    library_path: tuple[Path, ...]

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """Returns the process environment for the server: `base` with the environment's own paths in front.

        The caller's PYTHONPATH and PYTHONHOME are dropped: they would show the gateway's numpy 2 to the models.
        """
        variables = {k: v for k, v in base.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")}
        variables["PATH"] = _prepend([self.folder / "bin"], base.get("PATH", os.defpath))
        variables["LD_LIBRARY_PATH"] = _prepend(self.library_path, base.get("LD_LIBRARY_PATH", ""))
        variables["VIRTUAL_ENV"] = str(self.folder)
        variables["PYTHONNOUSERSITE"] = "1"
        variables["PYTHONUNBUFFERED"] = "1"
        # numpy's idle threads sleep instead of spinning: at every start of a model's process they kept a core busy.
        variables.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
        return variables


def environment_folder(configured: str | os.PathLike[str] | None = None) -> Path:
    """Returns the absolute folder of Triton's environment: configured, else $SLUICE_TRITON_ENV, else ./.venv-triton."""
    chosen = configured or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_FOLDER
    return Path(chosen).expanduser().absolute()


def find_environment(configured: str | os.PathLike[str] | None, work: Path) -> TritonEnvironment:
    """Returns the Triton of the environment, its backend folder laid out under `work`.

    Starts the environment's interpreter once (about 50 ms, blocking).

    Raises:
        TritonSetupError: something is missing or does not fit; the message says what to do.
    """
    folder = environment_folder(configured)
    python = folder / "bin" / "python"
    if not python.exists():
        raise TritonSetupError(
            f"no Triton environment at {folder}: run `make setup`, or name one with triton.environment in gateway.toml "
            f"or ${ENVIRONMENT_VARIABLE}"
        )
    facts = probe(python)
    version = str(facts["python"])
    _check_packages(folder, version, facts)
    purelib = Path(str(facts["purelib"]))
    root = purelib / "pytriton" / "tritonserver"
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    server = root / "bin" / "tritonserver"
    for needed in (server, stub, root / "backends" / "python"):
        if not needed.exists():
            raise TritonSetupError(
                f"the Triton environment {folder} is incomplete ({needed.name} is missing): "
                "delete that folder and run `make setup`"
            )
    return TritonEnvironment(
        folder=folder,
        python=python,
        python_version=version,
        server=server,
        backends=_lay_out(root / "backends" / "python", stub, work.absolute() / "backends"),
        library_path=(libpython_folder(facts), purelib / "nvidia_pytriton.libs"),
    )


def _prepend(folders: tuple[Path, ...] | list[Path], rest: str) -> str:
    return os.pathsep.join([*(str(folder) for folder in folders), *([rest] if rest else [])])


def probe(python: str | os.PathLike[str]) -> Mapping[str, object]:
    """Returns what the interpreter says of itself: "python" (3.11), "libpython", "folders", "purelib", packages.

    Raises:
        TritonSetupError: it does not run.
    """
    try:
        done = subprocess.run(
            [str(python), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TritonSetupError(f"the interpreter {python} does not run ({error}): run `make setup`") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise TritonSetupError(f"the interpreter {python} fails ({last}): delete its environment and run `make setup`")
    facts: dict[str, object] = json.loads(done.stdout)
    return facts


def _check_packages(folder: Path, version: str, facts: Mapping[str, object]) -> None:
    if version not in _SUPPORTED:
        raise TritonSetupError(
            f"the Triton environment {folder} uses Python {version}; supported are {', '.join(_SUPPORTED)}: "
            "delete that folder and run `make setup TRITON_PYTHON=python3.11`"
        )
    if facts["pytriton"] is None:
        raise TritonSetupError(f"nvidia-pytriton is not installed in {folder}: run `make setup`")
    numpy = facts["numpy"]
    if numpy is None or not str(numpy).startswith("1."):
        found = "no numpy" if numpy is None else f"numpy {numpy}"
        raise TritonSetupError(
            f"{folder} has {found}; Triton's python backend needs numpy 1.26 (newer ones give empty outputs): "
            "delete that folder and run `make setup`"
        )


def libpython_folder(facts: Mapping[str, object]) -> Path:
    """Returns the folder of the interpreter's shared library, which the python backend is linked against.

    Raises:
        TritonSetupError: it has none (a statically linked build).
    """
    name = str(facts["libpython"])
    folders = facts["folders"]
    assert isinstance(folders, list)
    for folder in folders:
        if (Path(folder) / name).exists():
            return Path(folder)
    version = facts["python"]
    raise TritonSetupError(
        f"{name} was not found beside the Python {version} at {facts['base']}, which is linked statically; Triton's "
        f"python backend needs it. Either install it (Debian and Ubuntu: `apt install libpython{version}`), or use a "
        "Python built with a shared library (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared; uv's have one) and run "
        "`make setup TRITON_PYTHON=/path/to/python3.11`"
    )


def _lay_out(backend: Path, stub: Path, target: Path) -> Path:
    """Links the python backend and the stub of the right interpreter into `target`/python; returns `target`."""
    wanted = {entry.name: entry for entry in backend.iterdir() if entry.is_file()} | {stub.name: stub}
    folder = target / "python"
    links = [path for path in folder.iterdir() if path.is_symlink()] if folder.is_dir() else []
    if {path.name: path.resolve() for path in links} == {name: path.resolve() for name, path in wanted.items()}:
        return target
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, entry in wanted.items():
        (folder / name).symlink_to(entry.resolve())
    return target
