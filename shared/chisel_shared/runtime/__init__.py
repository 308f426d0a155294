"""What every service stands on: the bus, the database, output, settings, logs, a way to start and stop.

Open `service.py` first: `serve()` is the only main. `bus.py` and `streams.py` alone know NATS,
`db.py` and the services' `store.py` alone know asyncpg. The client never imports this package.
"""
