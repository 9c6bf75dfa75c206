"""The sources are what is tested in the tests' own processes, unless SLUICE_COMPILED says otherwise (docs/adr/0018).

Many tests stand in for a neighbour of what they test; compiled modules take nothing but the real one. The processes
that tests start run what a user's would.
"""

import os

_SAID = os.environ.get("SLUICE_COMPILED")
os.environ["SLUICE_COMPILED"] = _SAID or "0"

import gateway  # noqa: E402 - it decides when it is imported

assert gateway.COMPILED is (os.environ["SLUICE_COMPILED"] == "1"), "imported before this file was"
if _SAID is None:
    del os.environ["SLUICE_COMPILED"]
