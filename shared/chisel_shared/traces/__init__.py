"""Reading traces: one reading for the terminal, the storage service and the web page. Pure.

Open `report.py` first: the results, plain data that every reader of them shares. `read.py` makes columns
(`columns.py`) of a file, `gpu.py` finds the GPU events in them, small modules answer one question each, and
`summary.py` and `diff.py` put the answers together. `report.py` and `sidecar.py` need msgspec alone: a client
that shows what a server computed loads no numpy. `repair.py` needs nothing: the job mends what it saves.

Times are microseconds as in the trace file, as floats; a name ends in `_us`, `_bytes` or `_seconds` for its
unit. Shares lie between 0 and 1.
"""
