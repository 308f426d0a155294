"""What becomes of a capture, from the call that is recorded to the file that can be downloaded."""

from enum import StrEnum


class TraceState(StrEnum):
    """Where a trace is. Each is a fact that somebody has seen: the agent in the job's folder, storage in
    what it holds."""

    RECORDING = "recording"
    """The call runs, or its trace is being written."""
    UPLOADING = "uploading"
    """The file is whole on the agent and on its way."""
    READY = "ready"
    """Storage has all of it, with the sha256 that the agent took."""
    PARTIAL = "partial"
    """Storage has what the agent sent, but the file ends in the middle: what can be read is its beginning."""
    LOST = "lost"
    """There is no file and there will be none."""


STORED = (TraceState.READY, TraceState.PARTIAL)
"""What can be downloaded."""


class Reading(StrEnum):
    """Whether storage has read a trace, which it does when the file arrives."""

    NONE = ""
    """Nothing is stored yet."""
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    """It cannot be read, or not within the limits; it can be downloaded all the same."""
