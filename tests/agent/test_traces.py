"""Which files in a job's folder of traces are traces."""

from pathlib import Path

from chisel_agent.outgoing import Outgoing
from chisel_agent.traces import TraceUploads
from chisel_shared.contract.ids import JobId, new_id
from chisel_shared.contract.messages import AttemptRef


class Store:
    def __init__(self) -> None:
        self.names: list[str] = []

    async def store_file(self, ref: AttemptRef, file: Outgoing) -> None:
        self.names.append(file.path)


async def test_a_trace_that_is_being_written_is_not_looked_at(tmp_path: Path) -> None:
    ref = AttemptRef(job_id=JobId(new_id()), attempt=1)
    (tmp_path / "traces").mkdir()
    written = tmp_path / "traces" / ".forward.json"
    written.write_text("{")
    store = Store()
    uploads = TraceUploads(store=store, ref=ref, folder=tmp_path)
    await uploads.upload_all()
    assert not (tmp_path / "traces.uploaded").exists()
    written.rename(written.with_name("forward.json"))
    await uploads.upload_all()
    assert store.names == ["forward.json"]
