"""An honest open-loop load generator: `sluice bench`, and what `benchmarks/` is made of.

Requests leave at planned instants whatever the server does, latency counts from the planned instant, every answer is
compared with what the server said when it was asked alone, and a run that says nothing says so.
"""
