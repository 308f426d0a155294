"""Figures of a whole embedded stack, one program per letter of the table in the README.

`python -m tests.bench` runs them all; open `__main__.py`, then `stack.py` (the private stack they
measure), `client.py` (running a command as a user would) and `figures.py` (what a result is).
A time never decides whether the tests pass; `test_measuring.py` tests only the judgement.
"""
