"""The storage service: every byte worth keeping. Bundles, archived output and traces, on one disk.

Open `service.py` first. `blobs.py` keeps whole files, `outputs.py` the growing ones, `store.py` what
is known about them, `archive.py` takes finished output over from the bus, `http.py` lets the bytes in
and out. The gateway alone talks to it: control over the bus, bytes over HTTP.
"""
