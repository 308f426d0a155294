"""Auth: who calls, and what they may do.

Open `service.py` first, then the two pure middles: `tokens.py` (what a key looks like) and `policy.py`
(what it allows). The gateway asks it about every entry; agents join through it once.
"""
