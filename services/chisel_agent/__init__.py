"""The agent: owns the GPUs of one machine, claims jobs that fit, runs them and ships what they write.

Open `service.py` for how it is put together, then `attempt.py` for the life of one attempt and
`shim.py` for the small process that outlives the agent and holds the user's one. `claims.py` asks
the scheduler for work, `renewal.py` tells it what is held. Talks to the scheduler and to `OUT` over
the bus, and to the gateway over HTTP (joining, bundles, traces, outputs); nobody else talks to it.
"""
