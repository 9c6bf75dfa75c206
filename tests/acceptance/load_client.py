"""A client process: many lean clients of all protocols at once, every answer compared with the value computed here.

Called with one JSON object: {"rest", "grpc": addresses, "clients": how many, "requests": how many in all (0: until
stdin is closed), "protocols", "models", "suffix": what model names end with, "seed", "until_refused": end a client when
its connection cannot be made again, "streams": requests at a time of a gRPC client, "pace_ms": pause of a client
between two requests}.

Prints "under way" once every client had an answer, and at the end {"sent", "right", "wrong": [...], "errors":
{reason: n}, "refused", "lost": [...], "rows": {model: n}}. `refused` counts what surely was not taken: connections that
could not be made, streams beyond a GOAWAY. `lost` are requests whose connection ended without an answer or a warning.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from collections import Counter
from typing import Any

import uvloop

from gateway._generated.open_inference_pb2 import ModelInferRequest
from gateway.transport.http2 import ClientResult, Http2Client, Http2Unavailable
from tests.acceptance.payloads import MODELS, Payload

INFER = b"/inference.GRPCInferenceService/ModelInfer"
MOST_NOTES = 5


class Refused(Exception):
    """The request was surely not taken."""


class Lost(Exception):
    """The connection ended under the request."""


class Failed(Exception):
    """The gateway answered with an error."""


class GrpcClient:
    """One HTTP/2 connection, made again when the last one said goodbye."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._client: Http2Client | None = None
        self._connecting = asyncio.Lock()

    async def ask(self, payload: Payload) -> None:
        async with self._connecting:
            client = self._client
            if client is None or not client.available:
                client = self._client = Http2Client()
                try:
                    await client.connect(self._host, self._port)
                except OSError as error:
                    raise Refused(str(error)) from None
        message = payload.to_proto(ModelInferRequest()).SerializeToString()
        answered: asyncio.Future[ClientResult] = asyncio.get_running_loop().create_future()
        headers = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", INFER),
            (b":authority", b"test"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
        try:
            client.request(headers, b"\0" + len(message).to_bytes(4, "big") + message, answered.set_result)
        except Http2Unavailable as error:
            raise Refused(str(error)) from None
        result = await answered
        if result.error is not None:
            raise Lost(result.error) if result.processed else Refused(result.error)
        status = {**result.headers, **result.trailers}
        if status.get(b"grpc-status") != b"0":
            text = status.get(b"grpc-message", b"").decode()
            raise Failed(f"grpc {status.get(b'grpc-status', b'?').decode()} {text}")
        payload.check_proto(bytes(result.body)[5:])

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class RestClient(asyncio.Protocol):
    """One HTTP/1.1 keep-alive connection, made again when the last one was announced to close."""

    def __init__(self, address: str, *, binary: bool) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._binary = binary
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answered: asyncio.Future[tuple[bytes, bytes]] | None = None

    def data_received(self, data: bytes) -> None:
        data = self._buffer = self._buffer + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = data[:end].lower()  # a Triton that is asked itself writes names in capitals
        start = head.index(b"content-length:") + 15
        if len(data) < end + int(head[start : head.index(b"\r", start)]):
            return
        self._buffer = b""
        if self._answered is not None:
            self._answered.set_result((head, data[end:]))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(Lost(f"connection lost ({error}) after {self._buffer!r:.100}"))

    async def ask(self, payload: Payload) -> None:
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._answered = None
            self._buffer = b""
            try:
                self._transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
            except OSError as error:
                raise Refused(str(error)) from None
        body, header_length = payload.to_rest(binary=self._binary)
        extra = f"Inference-Header-Content-Length: {header_length}\r\n" if header_length is not None else ""
        start_line = f"POST /v2/models/{payload.model}/infer HTTP/1.1\r\nHost: t\r\n"
        request = f"{start_line}{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._answered = loop.create_future()
        self._transport.write(request)
        head, answer = await self._answered
        if b"\r\nconnection: close\r\n" in head:
            self.close()
        if not head.startswith(b"http/1.1 200"):
            raise Failed(f"http {head[9:12].decode()} {json.loads(answer)['error']}")
        length = None
        if self._binary:
            start = head.index(b"inference-header-content-length:") + 32
            length = int(head[start : head.index(b"\r", start)])
        payload.check_rest(answer, length)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        self._transport = None


class Load:
    """Owns the clients and the tally."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._call = call
        self._left = call.get("requests", 0) or sys.maxsize
        self._serial = 0
        self._starting = 0
        self.stop = False
        self.tally: dict[str, Any] = {"sent": 0, "right": 0, "refused": 0, "wrong": [], "lost": []}
        self.errors: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    async def run(self) -> None:
        protocols = self._call.get("protocols", ["grpc", "json", "binary"])
        connections: list[GrpcClient | RestClient] = []
        async with asyncio.TaskGroup() as group:
            for number in range(self._call.get("clients", 3)):
                protocol = protocols[number % len(protocols)]
                client: GrpcClient | RestClient
                if protocol == "grpc":
                    client = GrpcClient(self._call["grpc"])
                else:
                    client = RestClient(self._call["rest"], binary=protocol == "binary")
                connections.append(client)
                for stream in range(self._call.get("streams", 1) if protocol == "grpc" else 1):
                    self._starting += 1
                    group.create_task(self._ask_on(client, f"client {number}.{stream} ({protocol})"))

        for client in connections:
            client.close()

    async def _ask_on(self, client: GrpcClient | RestClient, who: str) -> None:
        rng = random.Random(f"{self._call.get('seed', 1)}-{who}")
        names, suffix = self._call.get("models", ["add_sub"]), self._call.get("suffix", "")
        pace = self._call.get("pace_ms", 0) / 1000
        first = True
        while self._left > 0 and not self.stop:
            self._left -= 1
            self._serial += 1
            name = rng.choice(names)
            payload = MODELS[name](rng, self._serial, name + suffix)
            refused = await self._one(client, payload, f"{who}, {payload.model}")
            if first:
                first = False
                self._starting -= 1
                if not self._starting:
                    print("under way", flush=True)
            if refused and self._call.get("until_refused"):
                break
            if pace or refused:
                await asyncio.sleep(pace or 0.05)  # noqa: TID251

    async def _one(self, client: GrpcClient | RestClient, payload: Payload, who: str) -> bool:
        """Sends one request and notes what became of it; returns whether it was refused."""
        tally = self.tally
        tally["sent"] += 1
        try:
            await client.ask(payload)
        except Refused:
            tally["refused"] += 1
            return True
        except Lost as error:
            tally["lost"] = [*tally["lost"], f"{who}: {error}"]
        except Failed as error:
            self.errors[str(error)] += 1
        except AssertionError as error:
            tally["wrong"] = [*tally["wrong"], f"{who}: {error}"][:MOST_NOTES]
        else:
            tally["right"] += 1
            self.rows[payload.model] += payload.rows
        return False


async def main(call: dict[str, Any]) -> None:
    load = Load(call)

    def read_end() -> None:
        sys.stdin.read()
        load.stop = True

    threading.Thread(target=read_end, daemon=True).start()
    await load.run()
    print(json.dumps({**load.tally, "errors": load.errors, "rows": load.rows}), flush=True)


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
