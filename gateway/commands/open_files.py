"""The limit on open files: raised at a start to what the machine allows, for the gateway and the Triton below it."""

from __future__ import annotations

import resource

ENOUGH = 1 << 16
"""More than that is asked for nowhere; some systems have a hard limit of a thousand million."""


def raise_open_files() -> int:
    """Raises the soft limit to the hard one (at most `ENOUGH`, never downwards) and returns what holds from now on.

    Many systems give 1,024 and allow far more. With 1,024, a gateway or a Triton takes about a thousand connections and
    then no more: tritonserver logs "File descriptor limit reached" and leaves callers waiting.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
