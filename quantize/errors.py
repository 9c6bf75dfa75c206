"""Why a quantization ended without a published version; each kind carries the command's exit code."""

from __future__ import annotations

PUBLISHED, BAD_INPUT, REFUSED, UNSUPPORTED, UNAVAILABLE, CONFLICT, INTEGRITY, REGISTRY_IO = 0, 2, 3, 4, 5, 6, 7, 8
INTERRUPTED = 130


class QuantizeError(Exception):
    """Base of all; `problems` lists every reason found, each one line."""

    exit_code = BAD_INPUT
    verdict = "bad input"

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


class BadInput(QuantizeError):
    """Usage, policy or data that cannot be used."""


class GateRefused(QuantizeError):
    """The INT8 model was made and is not good enough, or nothing proves that it is."""

    exit_code = REFUSED
    verdict = "refused"


class UnsupportedModel(QuantizeError):
    """The model is not one that can be quantized safely."""

    exit_code = UNSUPPORTED
    verdict = "unsupported model"


class TargetUnavailable(QuantizeError):
    """A named target cannot be made or judged on this host."""

    exit_code = UNAVAILABLE
    verdict = "target unavailable"


class VersionConflict(QuantizeError):
    """Another publisher holds the model or took the version."""

    exit_code = CONFLICT
    verdict = "conflict"


class IntegrityFailure(QuantizeError):
    """What was written is not what can be read back."""

    exit_code = INTEGRITY
    verdict = "integrity failure"


class RegistryFailure(QuantizeError):
    """The registry cannot be written: permission, disk space, file system."""

    exit_code = REGISTRY_IO
    verdict = "registry failure"
