"""What a program sees when there is no key to use: a RuntimeError that says so."""

import os
import sys

from chisel.auth import authenticate

os.environ.pop("CHISEL_API_KEY", None)
sys.stdin = open(os.devnull)  # noqa: SIM115 - nobody is there to type a key

try:
    authenticate("https://chisel.invalid")
except RuntimeError as error:
    print(error)
else:
    raise SystemExit("a key came from nowhere")
