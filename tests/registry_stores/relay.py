"""A relay in front of an S3 server that tells what was asked for, and can cut an answer short."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit


class Relay:
    """Listens on a free port and passes everything on to `endpoint`, one connection a thread.

    `requests` are the heads that went through. `cut(head)` says after how many bytes of its answer a connection is
    closed, None to let it be.
    """

    def __init__(self, endpoint: str, cut: Callable[[str], int | None] = lambda head: None) -> None:
        parts = urlsplit(endpoint)
        self._target = (parts.hostname or "", parts.port or 80)
        self._cut = cut
        self._lock = threading.Lock()
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def gets(self, key: str) -> list[str]:
        """Returns the heads of the GET requests for the object."""
        with self._lock:
            return [head for head in self.requests if head.startswith("GET ") and key in head.partition("\r\n")[0]]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Answers the requests of one connection; the tests send none with a body that matters here."""
        with client, socket.create_connection(self._target) as server:
            left: list[int | None] = [None]
            threading.Thread(target=self._back, args=(server, client, left), daemon=True).start()
            try:
                while data := client.recv(1 << 16):
                    head = data.partition(b"\r\n\r\n")[0].decode("latin-1")
                    if head.startswith(("GET ", "HEAD ", "PUT ", "POST ", "DELETE ")):
                        with self._lock:
                            self.requests.append(head)
                            left[0] = self._cut(head)
                    server.sendall(data)
            except OSError:
                return

    def _back(self, server: socket.socket, client: socket.socket, left: list[int | None]) -> None:
        try:
            while data := server.recv(1 << 16):
                most = left[0]
                if most is not None:
                    left[0] = most - len(data)
                    if most <= len(data):
                        client.sendall(data[:most])
                        break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
