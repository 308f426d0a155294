"""Runs scripts in forked processes of one that has loaded torch: as if each had been started, and quicker.

Only for runs that are not traced, where torch's loading is not under test. Reads the folder of a
`script.py` a line, and answers with the exit status; what the script prints is in the files `stdout`
and `stderr` of the folder.
"""

import os
import runpy
import sys

import torch

assert torch.__version__

for line in sys.stdin:
    folder = line.rstrip("\n")
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = [os.path.join(folder, "script.py")]
        # What it raises ends this process as it would have ended its own.
        runpy.run_path(sys.argv[0], run_name="__main__")
        break
    _, ended = os.waitpid(child, 0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
    sys.stdout.flush()
