"""Which key would be used, without typing one; `--clear` forgets every stored key."""

import sys

from chisel.auth import authenticate, clear_credentials, is_authenticated

BACKEND = "http://localhost:8000"

# Check authentication status
if is_authenticated():
    print("✅ Authenticated")
else:
    print("No key yet")

# Manual authentication (rarely needed)
try:
    api_key = authenticate(BACKEND)
except RuntimeError as error:
    print(error)
else:
    print(f"The key for {BACKEND} begins with {api_key[:9]}")

# Clear credentials (equivalent to chisel --logout)
if "--clear" in sys.argv[1:]:
    clear_credentials()
    print("Stored keys are forgotten")
