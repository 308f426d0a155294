"""The gateway: the only public door. It owns nothing, so any number of it may run.

Open `app.py` first: the table of routes. `session.py` is one WebSocket, `follow.py` one job watched
on it, `feed.py` what all of them share of the bus, `api.py` the HTTP handlers, `storage.py` the way to
the storage service's bytes, `openapi.py` the published description. Clients talk to it from outside,
agents to join and to move files; it talks to auth, scheduler and storage.
"""
