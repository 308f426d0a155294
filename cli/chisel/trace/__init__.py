"""Traces on the side of the script: how a function is profiled and where its trace is saved.

Open `capture.py` first: it holds the decorator and decides whether anything happens at all. Only on
a backend are `wrapping.py` (the kinds of functions), `recording.py` (torch's profiler) and
`naming.py` (file names) loaded. Nothing here imports the rest of Chisel.
"""
