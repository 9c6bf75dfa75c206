"""Does things in order, some of them ahead of their turn, in threads that nobody has to wait for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
V = TypeVar("V")


def ahead(work: Callable[[T], V], items: Iterable[T], at_once: int) -> Iterator[V]:
    """Yields what `work` gives for each item, in their order; at most `at_once` are worked on or wait to be taken.

    The threads are daemons: one that hangs does not keep the process from ending, as those of a pool would. Raises
    what `work` raises, at that item's turn.
    """
    left = iter(items)
    under_way = deque(_begun(work, item) for item in islice(left, at_once))
    while under_way:
        yield under_way.popleft().result()
        under_way.extend(_begun(work, item) for item in islice(left, 1))


def _begun(work: Callable[[T], V], item: T) -> Future[V]:
    future: Future[V] = Future()

    def body() -> None:
        try:
            future.set_result(work(item))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=body, name="ahead", daemon=True).start()
    return future
