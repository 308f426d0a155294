"""Secrets, as the gateway passes them: in from users, out to the one agent that holds the job."""

import msgspec

from chisel_gateway.calls import PATIENCE_SECONDS, ask
from chisel_gateway.jobs import project_of
from chisel_shared.contract.ids import AgentId, JobId, SessionId
from chisel_shared.contract.messages import (
    Done,
    GetSecretsOfAttempt,
    ListSecrets,
    OpenSecrets,
    Principal,
    RemoveSecret,
    RequireSecrets,
    Secrets,
    SecretView,
    SetSecret,
)
from chisel_shared.runtime.bus import Bus


class SecretsWanted(msgspec.Struct, frozen=True):
    """By which session of the agent: an older one gets nothing."""

    session: str


class SecretVariables(msgspec.Struct, frozen=True):
    """Values, in base64, by the variable that the job finds each in."""

    variables: dict[str, bytes]

    def __repr__(self) -> str:
        return f"SecretVariables({sorted(self.variables)})"


class SecretDoor:
    """What is asked of auth about secrets, and of the scheduler before any of them goes out."""

    def __init__(self, *, bus: Bus) -> None:
        self._bus = bus

    async def put(self, caller: Principal, name: str, value: bytes) -> SecretView:
        asked = SetSecret(project_id=project_of(caller), set_by=caller.name, name=name, value=value)
        return await ask(self._bus, asked)

    async def list(self, caller: Principal) -> Secrets:
        return await ask(self._bus, ListSecrets(project_id=project_of(caller)))

    async def remove(self, caller: Principal, name: str) -> Done:
        return await ask(self._bus, RemoveSecret(project_id=project_of(caller), name=name))

    async def require(
        self, caller: Principal, secrets: dict[str, str], *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """`NotFound` names those that the caller's project does not have."""
        if secrets:
            names = tuple(sorted(set(secrets.values())))
            asked = RequireSecrets(project_id=project_of(caller), names=names)
            await ask(self._bus, asked, patience_seconds=patience_seconds)

    async def of_attempt(
        self, agent: Principal, session: str, job_id: JobId, attempt: int
    ) -> SecretVariables:
        """For the agent that holds this open attempt; the job's spec says which, not the agent."""
        held = await ask(
            self._bus,
            GetSecretsOfAttempt(
                agent_id=AgentId(agent.id), session=SessionId(session), job_id=job_id, attempt=attempt
            ),
        )
        if not held.secrets:
            return SecretVariables({})
        names = tuple(sorted(set(held.secrets.values())))
        values = (await ask(self._bus, OpenSecrets(project_id=held.project_id, names=names))).values
        return SecretVariables({variable: values[name] for variable, name in held.secrets.items()})
