"""Everything services and agents say to each other: one class is subject, payload and reply type.

A `Request` expects one answer from one member of a group; a `Message` is said to whoever listens and
may be lost, so it only hints at what Postgres knows. A `{token}` of a subject is a field of the class.
All agents share one NATS user: each is known by its id and the secret session of its last hello.
Unknown fields are ignored, so an old reader survives a new writer; fields are added, never given
another meaning. One file for each part that answers; whoever says messages imports them from here.
"""

from chisel_shared.contract.messages.agents import Assignment as Assignment
from chisel_shared.contract.messages.agents import AttemptDone as AttemptDone
from chisel_shared.contract.messages.agents import AttemptRef as AttemptRef
from chisel_shared.contract.messages.agents import CancelAttempt as CancelAttempt
from chisel_shared.contract.messages.agents import Claim as Claim
from chisel_shared.contract.messages.agents import Claimed as Claimed
from chisel_shared.contract.messages.agents import Hello as Hello
from chisel_shared.contract.messages.agents import Progress as Progress
from chisel_shared.contract.messages.agents import Progressed as Progressed
from chisel_shared.contract.messages.agents import Renew as Renew
from chisel_shared.contract.messages.agents import Renewed as Renewed
from chisel_shared.contract.messages.agents import Wake as Wake
from chisel_shared.contract.messages.agents import Welcome as Welcome
from chisel_shared.contract.messages.auth import AgentCredentials as AgentCredentials
from chisel_shared.contract.messages.auth import Authorize as Authorize
from chisel_shared.contract.messages.auth import JoinAgent as JoinAgent
from chisel_shared.contract.messages.auth import ListSecrets as ListSecrets
from chisel_shared.contract.messages.auth import OpenedSecrets as OpenedSecrets
from chisel_shared.contract.messages.auth import OpenSecrets as OpenSecrets
from chisel_shared.contract.messages.auth import Principal as Principal
from chisel_shared.contract.messages.auth import RemoveSecret as RemoveSecret
from chisel_shared.contract.messages.auth import RequireSecrets as RequireSecrets
from chisel_shared.contract.messages.auth import Secrets as Secrets
from chisel_shared.contract.messages.auth import SecretView as SecretView
from chisel_shared.contract.messages.auth import SetSecret as SetSecret
from chisel_shared.contract.messages.jobs import Agents as Agents
from chisel_shared.contract.messages.jobs import AgentView as AgentView
from chisel_shared.contract.messages.jobs import Attempts as Attempts
from chisel_shared.contract.messages.jobs import AttemptView as AttemptView
from chisel_shared.contract.messages.jobs import CancelJob as CancelJob
from chisel_shared.contract.messages.jobs import GetAttempt as GetAttempt
from chisel_shared.contract.messages.jobs import GetJob as GetJob
from chisel_shared.contract.messages.jobs import GetSecretsOfAttempt as GetSecretsOfAttempt
from chisel_shared.contract.messages.jobs import JobChanged as JobChanged
from chisel_shared.contract.messages.jobs import Jobs as Jobs
from chisel_shared.contract.messages.jobs import ListAgents as ListAgents
from chisel_shared.contract.messages.jobs import ListJobs as ListJobs
from chisel_shared.contract.messages.jobs import ListUnarchived as ListUnarchived
from chisel_shared.contract.messages.jobs import MarkArchived as MarkArchived
from chisel_shared.contract.messages.jobs import SecretsOfAttempt as SecretsOfAttempt
from chisel_shared.contract.messages.jobs import SubmitJob as SubmitJob
from chisel_shared.contract.messages.jobs import Submitted as Submitted
from chisel_shared.contract.messages.queue import GetSpec as GetSpec
from chisel_shared.contract.messages.queue import GpuKind as GpuKind
from chisel_shared.contract.messages.queue import Gpus as Gpus
from chisel_shared.contract.messages.queue import ListGpus as ListGpus
from chisel_shared.contract.messages.queue import Neighbour as Neighbour
from chisel_shared.contract.messages.queue import Why as Why
from chisel_shared.contract.messages.queue import WhyJob as WhyJob
from chisel_shared.contract.messages.storage import BundlePresence as BundlePresence
from chisel_shared.contract.messages.storage import Files as Files
from chisel_shared.contract.messages.storage import FileView as FileView
from chisel_shared.contract.messages.storage import HasBundle as HasBundle
from chisel_shared.contract.messages.storage import ListTraces as ListTraces
from chisel_shared.contract.messages.storage import Outputs as Outputs
from chisel_shared.contract.messages.storage import Traces as Traces
from chisel_shared.contract.messages.storage import TraceView as TraceView
from chisel_shared.contract.subjects import MESSAGES as MESSAGES
from chisel_shared.contract.subjects import Done as Done
from chisel_shared.contract.subjects import Message as Message
from chisel_shared.contract.subjects import Request as Request
from chisel_shared.contract.subjects import pattern as pattern
from chisel_shared.contract.subjects import reply_type as reply_type
from chisel_shared.contract.subjects import tokens as tokens
