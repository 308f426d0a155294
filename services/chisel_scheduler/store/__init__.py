"""Every SQL sentence of the scheduler, one module a table and its neighbours.

Open `changes.py` first: every change of a job goes through it. Locks are always taken in one order,
or two transactions would wait for each other: the agent's row, the pool's lock, the job's row, its
attempt's row.
"""
