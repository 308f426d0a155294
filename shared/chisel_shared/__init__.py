"""What Chisel's programs agree on (`contract`) and what its services stand on (`runtime`).

Open `contract/messages/` first: it lists everything services say to each other.
"""
