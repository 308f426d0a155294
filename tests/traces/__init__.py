"""Reading traces, on traces small enough to add up by hand. Open `build.py`, which makes them."""
