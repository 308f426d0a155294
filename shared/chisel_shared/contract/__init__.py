"""The agreement between client, services and agents: pure data, no I/O, no clock, no environment.

Open `job.py` (what a job is and how it ends), then `messages/` (what services say to each other)
and `frames.py` (what a client and the gateway say over one WebSocket). Everybody imports this
package; it imports the standard library and msgspec only, and `gpus.py` the standard library alone,
because it travels into every job.
"""
