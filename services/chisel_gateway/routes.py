"""The table of routes: what is served, to whom, and how it is described. `openapi.py` prints it."""

from dataclasses import dataclass, field
from typing import Any

from chisel_gateway.api import Api, BundleStored, CancelWish, Health, PackStored
from chisel_gateway.secrets import SecretsWanted, SecretVariables
from chisel_shared.contract.files import FileMode
from chisel_shared.contract.job import JobSpec, JobView
from chisel_shared.contract.messages import (
    AgentCredentials,
    Agents,
    Done,
    FileView,
    Gpus,
    Jobs,
    Outputs,
    Secrets,
    SecretView,
    Submitted,
    Why,
)
from chisel_shared.runtime.http import Handler


@dataclass(frozen=True, slots=True)
class Parameter:
    """Something a caller may add to an address or a header."""

    name: str
    schema: dict[str, Any]
    description: str
    place: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one address. `action` is what the caller must be allowed; None opens it to all.

    `body` and `reply` are structs, or the media type of raw bytes. A `page` is for people's browsers and
    no part of the description.
    """

    method: str
    path: str
    action: str | None
    handler: Handler
    summary: str
    body: type | str | None = None
    body_required: bool = True
    reply: type | str | None = None
    status: int = 200
    parameters: tuple[Parameter, ...] = field(default=())
    page: bool = False


_BYTES = "application/octet-stream"
_LIMIT = Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "How many; 50 if not said.")
_UNFINISHED = Parameter("unfinished", {"type": "boolean"}, "Only jobs that have not ended.")
ATTEMPT = Parameter("attempt", {"type": "integer", "minimum": 1}, "Which attempt; the newest if not said.")
_PATH = Parameter(
    "path", {"type": "string"}, "Where it lay below its folder, parts joined by `/`.", required=True
)
_MODE = Parameter("mode", {"enum": list(FileMode)}, "What it is; `plain` if not said.")
_OFFSET = Parameter("offset", {"type": "integer", "minimum": 0}, "The first byte wanted.")
_KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "maxLength": 200},
    "Any text of the caller's own: the same key never makes a second job.",
    place="header",
    required=True,
)
_SHA256 = Parameter(
    "X-Chisel-Sha256", {"type": "string"}, "The sha256 of the body.", place="header", required=True
)


def routes(api: Api) -> tuple[Route, ...]:
    """Every address of the gateway."""
    v1 = "/api/v1"
    return (
        Route("GET", "/health", None, api.health, "Whether this process works.", reply=Health),
        Route("GET", "/ready", None, api.ready, "Whether everything behind it answers.", reply=Health),
        Route("GET", f"{v1}/openapi.json", None, api.openapi, "This description.", reply="application/json"),
        Route(
            "GET",
            f"{v1}/session",
            "jobs:read",
            api.session,
            "Submit and follow jobs over one WebSocket (subprotocol `chisel.v1`).",
            status=101,
        ),
        Route(
            "HEAD",
            f"{v1}/bundles/{{digest}}",
            "jobs:submit",
            api.has_bundle,
            "Whether a bundle is stored: its manifest and all its packs.",
        ),
        Route(
            "PUT",
            f"{v1}/bundles/{{digest}}",
            "jobs:submit",
            api.put_bundle,
            "Store a bundle's manifest, named by its sha256; the answer names the packs still to come.",
            body="application/json",
            reply=BundleStored,
            status=201,
        ),
        Route(
            "PUT",
            f"{v1}/packs/{{digest}}",
            "jobs:submit",
            api.put_pack,
            "Store a pack, a gzipped tar archive named by its sha256.",
            body="application/gzip",
            reply=PackStored,
            status=201,
        ),
        Route(
            "POST",
            f"{v1}/jobs",
            "jobs:submit",
            api.submit,
            "Queue a job whose bundle is stored.",
            body=JobSpec,
            reply=Submitted,
            status=201,
            parameters=(_KEY,),
        ),
        Route(
            "GET",
            f"{v1}/jobs",
            "jobs:read",
            api.list_jobs,
            "The project's jobs, newest first.",
            reply=Jobs,
            parameters=(_UNFINISHED, _LIMIT),
        ),
        Route("GET", f"{v1}/jobs/{{job}}", "jobs:read", api.get_job, "One job.", reply=JobView),
        Route(
            "POST",
            f"{v1}/jobs/{{job}}/cancel",
            "jobs:cancel",
            api.cancel,
            "Ask for the end of a job.",
            body=CancelWish,
            body_required=False,
            reply=JobView,
        ),
        Route(
            "POST",
            f"{v1}/jobs/{{job}}/rerun",
            "jobs:submit",
            api.rerun,
            "Queue a job with the spec and the bundle of another.",
            reply=Submitted,
            status=201,
            parameters=(_KEY,),
        ),
        Route(
            "GET",
            f"{v1}/jobs/{{job}}/why",
            "jobs:read",
            api.why,
            "Where a job stands in the queue, and what it waits for.",
            reply=Why,
        ),
        Route(
            "GET",
            f"{v1}/jobs/{{job}}/output/{{stream}}",
            "jobs:read",
            api.output,
            "What a job has printed by now to `stdout` or `stderr`, as it printed it.",
            reply=_BYTES,
            parameters=(_OFFSET, ATTEMPT),
        ),
        Route("GET", f"{v1}/gpus", "agents:read", api.list_gpus, "GPUs by model.", reply=Gpus),
        Route(
            "GET",
            f"{v1}/jobs/{{job}}/files",
            "jobs:read",
            api.list_files,
            "What a job wrote into `./outputs`, as far as it is stored.",
            reply=Outputs,
            parameters=(ATTEMPT,),
        ),
        Route(
            "GET",
            f"{v1}/jobs/{{job}}/files/{{digest}}",
            "jobs:read",
            api.get_file,
            "One of these files, by its sha256; of a link, the target.",
            reply=_BYTES,
            parameters=(ATTEMPT,),
        ),
        Route("GET", f"{v1}/agents", "agents:read", api.list_agents, "Every known agent.", reply=Agents),
        Route(
            "GET",
            f"{v1}/secrets",
            "secrets:read",
            api.list_secrets,
            "The project's secrets: names and when they were set, never values.",
            reply=Secrets,
        ),
        Route(
            "PUT",
            f"{v1}/secrets/{{name}}",
            "secrets:write",
            api.put_secret,
            "Set a secret; the body is its value, byte for byte.",
            body=_BYTES,
            reply=SecretView,
        ),
        Route(
            "DELETE",
            f"{v1}/secrets/{{name}}",
            "secrets:write",
            api.remove_secret,
            "Forget a secret.",
            reply=Done,
        ),
        Route(
            "POST",
            f"{v1}/agents/join",
            None,
            api.join,
            "For agents: exchange a join token for credentials.",
            body=api.join_body,
            reply=AgentCredentials,
        ),
        Route(
            "GET",
            f"{v1}/agent/bundles/{{project}}/{{digest}}",
            "agent:work",
            api.agent_bundle,
            "For agents: a bundle's manifest.",
            reply="application/json",
        ),
        Route(
            "GET",
            f"{v1}/agent/packs/{{project}}/{{digest}}",
            "agent:work",
            api.agent_pack,
            "For agents: a pack.",
            reply="application/gzip",
        ),
        Route(
            "POST",
            f"{v1}/agent/secrets/{{job}}/{{attempt}}",
            "agent:work",
            api.agent_secrets,
            "For agents: the secrets of an attempt they hold.",
            body=SecretsWanted,
            reply=SecretVariables,
        ),
        Route(
            "PUT",
            f"{v1}/agent/files/{{job}}/{{attempt}}/{{kind}}",
            "agent:work",
            api.agent_file,
            "For agents: store a trace or an output of an attempt of theirs.",
            body=_BYTES,
            reply=FileView,
            status=201,
            parameters=(_SHA256, _PATH, _MODE),
        ),
    )
