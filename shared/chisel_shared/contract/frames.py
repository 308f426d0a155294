"""What a client and the gateway say over one WebSocket.

Text frames are JSON, one struct each, told apart by `type`. Binary frames carry output: a fixed
header (`OUTPUT_HEADER`) and the script's raw bytes; one without any says that the stream has reached
what is kept of its beginning, and that its end follows when the job has ended. One connection follows
at most one job; a client that lost its connection opens another and sends `Follow` with the offsets it
has.
"""

import struct
from typing import Union

import msgspec

from chisel_shared.contract.ids import Digest
from chisel_shared.contract.job import JobSpec, JobView

PROTOCOL = "chisel.v1"
"""The WebSocket subprotocol: both sides name it, so a stranger on the port is noticed at once."""

MAX_TEXT_BYTES = 64 * 1024
"""Largest text frame the gateway accepts: a spec with its arguments fits, a mistake does not."""


class Position(msgspec.Struct, frozen=True):
    """How far a client has read: the attempt and the next byte it wants of each stream."""

    attempt: int = 0
    stdout: int = 0
    stderr: int = 0


# Client to gateway


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Submit a job and, with `follow`, watch it to its end on this connection."""

    spec: JobSpec
    idempotency_key: str
    follow: bool = True


class Follow(msgspec.Struct, frozen=True, tag="follow"):
    """Send the output of a job from `position`. With `live` off, send what is stored by now, then `End`.

    `tail` begins with the last so many lines of the newest attempt instead, `since` with what came to the
    backend at or after that time, in seconds since the epoch; a negative one counts back from now. Then
    `Begin` says where the output begins. `streams` names those wanted, both when empty. With `output` off
    only the job's changes and its end are told. With `timestamps` a `Stamp` comes before all output.
    """

    job_id: str
    position: Position = Position()
    live: bool = True
    output: bool = True
    tail: int | None = None
    since: float | None = None
    streams: tuple[str, ...] = ()
    timestamps: bool = False


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Ask for the end of a job; answered by its view."""

    job_id: str


class List(msgspec.Struct, frozen=True, tag="list"):
    """Ask for jobs, newest first; answered by `Listing`."""

    unfinished: bool = False
    limit: int = 50


ClientFrame = Union[Submit, Follow, Cancel, List]

# Gateway to client


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The job is committed: it will reach an end whatever happens to this connection."""

    job: JobView


class BundleMissing(msgspec.Struct, frozen=True, tag="bundle_missing"):
    """Upload this bundle, then send the same `Submit` again.

    The files of a bundle may have at most `max_bytes` together, files and folders be at most
    `max_entries`; 0: nothing is said about it.
    """

    digest: Digest
    max_bytes: int = 0
    max_entries: int = 0


class Update(msgspec.Struct, frozen=True, tag="update"):
    """The followed job changed, or the answer to `Cancel`."""

    job: JobView


class Listing(msgspec.Struct, frozen=True, tag="listing"):
    jobs: tuple[JobView, ...]


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """The output of an attempt begins here: what lies before was not asked for."""

    position: Position


class Stamp(msgspec.Struct, frozen=True, tag="stamp"):
    """When the output that follows came to the backend, in seconds since the epoch; 0 when nobody knows."""

    time: float


class End(msgspec.Struct, frozen=True, tag="end"):
    """Every byte asked for has been sent; with a finished job, its `end` is final."""

    job: JobView


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The last frame could not be served. `code` is one of the error tree's."""

    code: str
    message: str


ServerFrame = Union[Accepted, BundleMissing, Update, Listing, Begin, Stamp, End, Failure]

OUTPUT_HEADER = struct.Struct(">BIQ")
"""Stream (1 stdout, 2 stderr), attempt, offset of the first byte that follows."""

STREAM_NUMBERS = {"stdout": 1, "stderr": 2}

_encoder = msgspec.json.Encoder()
_client_decoder: msgspec.json.Decoder[ClientFrame] = msgspec.json.Decoder(ClientFrame)
_server_decoder: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(ServerFrame)


def encode(frame: ClientFrame | ServerFrame) -> bytes:
    """A frame as the payload of a text message."""
    return _encoder.encode(frame)


def decode_client(payload: bytes | str) -> ClientFrame:
    """A client's text message; `msgspec.MsgspecError` when it is none of ours."""
    return _client_decoder.decode(payload)


def decode_server(payload: bytes | str) -> ServerFrame:
    """A gateway's text message; `msgspec.MsgspecError` when it is none of ours."""
    return _server_decoder.decode(payload)
