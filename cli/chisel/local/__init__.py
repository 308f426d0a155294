"""The embedded stack: everything of Chisel on this machine, from wheels, without root or Docker.

Open `stack.py` first (finding a stack and starting one), then `supervisor.py` (what keeps its
processes alive) and `children.py` (which processes those are). `servers.py` knows how NATS and
Postgres are started, `processes.py` what a process is to us, `state.py` what a stack remembers.
The CLI calls `commands.py` for `chisel up`, `down` and `status`.
"""
