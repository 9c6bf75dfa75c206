"""Light traffic of `make train-demo`: held-out rows of the census table over REST, and what was true of each.

python -m tools.train_demo_traffic '{"rest": "…", "admin": "…", "model": "…", "rows": "rows.npz", "rate": 150}'

A few callers, each with a request under way at most, together at `rate` a second or less. After each answer it says
whether the decision was right (`POST /v1/outcomes`). Prints "under way"; ends with its input, and prints the tally:
answers, right ones and their share by version, failures by kind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np

CALLERS, TOLD_EVERY_S, PATIENCE_S = 12, 0.2, 30
THRESHOLD = 0.5


@dataclass(slots=True)
class Tally:
    """What was answered, by version."""

    answers: dict[str, int] = field(default_factory=dict)
    right: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def answered(self, version: str, *, right: bool) -> None:
        self.answers[version] = self.answers.get(version, 0) + 1
        self.right[version] = self.right.get(version, 0) + right

    def document(self) -> dict[str, Any]:
        share = {version: round(self.right[version] / count, 4) for version, count in self.answers.items()}
        return {"answers": self.answers, "right_share": share, "failed": self.failed}


class Traffic:
    """Asks until told to end."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._call = call
        rows = np.load(call["rows"])
        self._categorical, self._continuous = rows["categorical"].tolist(), rows["continuous"].tolist()
        self._label = rows["label"].tolist()
        self._order = np.random.default_rng(call.get("seed", 1)).permutation(len(self._label)).tolist()
        self._serial = 0
        self._outcomes: list[dict[str, Any]] = []
        self._over = asyncio.Event()
        self.tally = Tally()

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            group.create_task(self._until_told())
            group.create_task(self._tell(session))
            for _ in range(CALLERS):
                group.create_task(self._caller(session))

    async def _until_told(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        print("under way", flush=True)
        await reader.read()
        self._over.set()

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()

    async def _caller(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        while not self._over.is_set():
            began = loop.time()
            await self._ask(session)
            await self._pause(max(0.001, CALLERS / self._call["rate"] - (loop.time() - began)))

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        self._serial += 1
        row = self._order[self._serial % len(self._order)]
        request_id = f"demo-{self._call.get('seed', 1)}-{self._serial}"
        body = {
            "inputs": [
                {"name": "categorical", "datatype": "INT64", "shape": [1, 8], "data": self._categorical[row]},
                {"name": "continuous", "datatype": "FP32", "shape": [1, 5], "data": self._continuous[row]},
            ]
        }
        url = f"http://{self._call['rest']}/v2/models/{self._call['model']}/infer"
        try:
            async with session.post(url, json=body, headers={"x-request-id": request_id}) as answer:
                document = await answer.json()
                if answer.status != 200:
                    raise ValueError(f"status {answer.status}")
                version, found = str(document["model_version"]), document["outputs"][0]["data"][0]
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError) as error:
            kind = str(error)[:60] or type(error).__name__
            self.tally.failed[kind] = self.tally.failed.get(kind, 0) + 1
            return
        right = (found > THRESHOLD) == self._label[row]
        self.tally.answered(version, right=right)
        self._outcomes.append({"request_id": request_id, "good": right})

    async def _tell(self, session: aiohttp.ClientSession) -> None:
        """Reports the truth in batches; what cannot be reported is dropped, as the traffic is the demo's own."""
        while not self._over.is_set():
            await self._pause(TOLD_EVERY_S)
            batch, self._outcomes = self._outcomes, []
            if not batch:
                continue
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                async with session.post(f"http://{self._call['admin']}/v1/outcomes", json=batch) as answer:
                    await answer.read()


async def main() -> None:
    traffic = Traffic(json.loads(sys.argv[1]))
    await traffic.run()
    print(json.dumps(traffic.tally.document()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
