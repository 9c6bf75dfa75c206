"""Talks to the runner that serves a state folder."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs import files
from jobs.documents import JobError
from jobs.state_folder import StateFolder

TIMEOUT_S = 60.0
_CHUNK = 1 << 16


class NoRunner(Exception):
    """No runner serves the state folder; the message says what to do."""


class RunnerRefused(Exception):
    """The runner said no; the message is its own."""


class Client:
    """Calls the runner of one state folder. Raises NoRunner, RunnerRefused, JobError."""

    def __init__(self, state: StateFolder) -> None:
        self._state = state

    def call(self, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
        """Returns the JSON answer."""
        with self._response(method, path, document) as response:
            return json.loads(response.read())

    def stream(self, path: str) -> Iterator[bytes]:
        """Yields the body of the answer as it comes."""
        with self._response("GET", path, None, timeout=None) as response:
            while chunk := response.read1(_CHUNK):
                yield chunk

    @contextmanager
    def _response(
        self, method: str, path: str, document: dict[str, Any] | None, timeout: float | None = TIMEOUT_S
    ) -> Iterator[http.client.HTTPResponse]:
        where = files.read_json(self._state.endpoint_file)
        if where is None:
            raise NoRunner(f"no runner serves {self._state.root}: start `sluice jobs serve`")
        connection = http.client.HTTPConnection("127.0.0.1", where["port"], timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {self._state.token()}", "Content-Type": "application/json"}
            try:
                body = None if document is None else json.dumps(document)
                connection.request(method, path, body, headers)
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise NoRunner(
                    f"the runner of {self._state.root} does not answer ({error}): start `sluice jobs serve`"
                ) from error
            if response.status >= 300:
                raise _refusal(response)
            yield response
        finally:
            connection.close()


def _refusal(response: http.client.HTTPResponse) -> Exception:
    try:
        answer = json.loads(response.read())
    except ValueError:
        return RunnerRefused(response.reason)
    if problems := answer.get("problems"):
        return JobError(problems)
    return RunnerRefused(str(answer.get("error", response.reason)))
