"""What a script outside the uploaded directory looks like: it could not travel, so nothing starts."""

import tempfile

from chisel.layout import locate

with tempfile.TemporaryDirectory() as elsewhere:
    try:
        locate(__file__, upload_dir=elsewhere)
    except AssertionError as error:
        print(error)
    else:
        raise SystemExit("a script that cannot travel was accepted")
