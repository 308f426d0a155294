"""Do one thing on a backend and another at home."""

import os

# Check if running on Chisel backend
if os.environ.get("CHISEL_BACKEND_RUN") == "1":
    print("🚀 Running on cloud GPU!")
    # Cloud-specific logic
    batch_size = 4096
else:
    print("💻 Running locally")
    # Local-specific logic
    batch_size = 32

print(f"Batch size: {batch_size}")
