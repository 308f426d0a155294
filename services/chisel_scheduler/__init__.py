"""The scheduler: decides which agent runs which job, and is the only writer of a job's state.

Open `service.py` first (what is asked and answered), then `placement.py` (who gets a claim, pure) and
`store/changes.py` (the one place where a state changes). Gateways ask for users, agents ask for
themselves, storage asks what to archive; `outbox.py` tells everybody what became true and
`reaper.py` heals what was left behind.
"""
