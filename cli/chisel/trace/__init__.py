"""Traces on the side of the script: how a function is profiled and where its trace is saved.

Open `capture.py` first: it holds the decorator and decides whether anything happens at all. Only on
a backend is the rest loaded: `wrapping.py` (the kinds of functions), `recording.py` (one capture), and what
that stands on: `profiler.py` and `rivals.py` (torch), `stepping.py` and `bounds.py` (what ends it early),
`stopping.py` (signals), `forking.py` (children), `gpus.py` (the driver), `naming.py`, `facts.py` and
`saving.py` (files). It needs the standard library alone, because a job's environment is its own, and of the
rest of Chisel only `chisel_shared.traces.repair`, which does too.
"""
