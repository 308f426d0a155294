"""The embedded stack: its supervisor with stand-in children, and the real thing."""
