"""What a program can ask of a backend; the command line is one such program.

    with Client() as client:
        job = client.submit("train.py", gpu=4)
        for line in job.logs(): ...

What a job does is in `job.py`; asyncio programs use `aio.py`.

Each verb loads what it needs: a cancel speaks HTTP and never loads WebSockets.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from chisel import auth, settings
from chisel.address import parse
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.ids import LAST

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; these are loaded by the verbs that need them
if TYPE_CHECKING:
    import socket

    from chisel.api import Api
    from chisel.bundle import Bundle
    from chisel.following import Following, Wanted
    from chisel.job import Job, Stop
    from chisel.pulling import Pulled
    from chisel_shared.contract.frames import Position
    from chisel_shared.contract.gpus import GPUType
    from chisel_shared.contract.job import JobSpec, JobView
    from chisel_shared.contract.messages import FileView, GpuKind, Outputs, SecretView, TraceView, Why
    from chisel_shared.traces.report import Summary
    from chisel_shared.traces.sidecar import Sidecar


class Client:
    """Speaks to one backend with one key; without arguments, to the one the command line would use.

    Verbs raise the errors of `chisel_shared.contract.errors`; the constructor also raises the
    `RuntimeError` of `chisel.auth.authenticate`.
    """

    def __init__(self, *, url: str = "", api_key: str = "") -> None:
        backend = settings.Backend(url) if url else settings.backend(lambda line: None)
        self._address = parse(backend.url)
        self._key = api_key or settings.api_key() or backend.key or auth.authenticate(backend.url)
        self._api: Api | None = None

    @property
    def url(self) -> str:
        return str(self._address)

    def connect(self, *, wake: "socket.socket | None" = None) -> "Following":
        """Begin to connect for a job whose submission is still being prepared.

        Iterating yields `Woken` whenever `wake` is readable.
        """
        from chisel.following import Following

        following = Following(address=self._address, key=self._key, wake=wake)
        following.dial()
        return following

    def run(
        self,
        spec: "JobSpec",
        bundle: "Bundle",
        *,
        idempotency_key: str = "",
        wake: "socket.socket | None" = None,
    ) -> "Following":
        """Submit a job and watch it to its end. One key always stands for one job."""
        from chisel.following import Submission

        following = self.connect(wake=wake)
        following.submit(Submission(spec, bundle, idempotency_key or os.urandom(16).hex()))
        return following

    def follow(
        self,
        job_id: str,
        *,
        position: "Position | None" = None,
        live: bool = True,
        wanted: "Wanted | None" = None,
        wake: "socket.socket | None" = None,
    ) -> "Following":
        """The output of a job from `position`; without `live` only what there is by now. `wanted` leaves
        out a part of it, or tells more."""
        from chisel.following import Following, Wanted

        return Following(
            address=self._address,
            key=self._key,
            job_id=self.resolve(job_id),
            position=position,
            live=live,
            wanted=wanted or Wanted(),
            wake=wake,
        )

    def submit(
        self, command: "str | os.PathLike[str] | Sequence[str]", *, gpu: "int | GPUType" = 1, name: str = "",
        upload_dir: "str | os.PathLike[str]" = ".", requirements: str | None = None,
        env: "Mapping[str, str] | None" = None, secrets: "Iterable[str] | Mapping[str, str]" = (),
        time_limit_seconds: float | None = None, retries: int = 0, retry_on: "Iterable[str]" = (),
        lease_seconds: float | None = None, priority: int = 0,
        idempotency_key: str = "", stop: "Stop | None" = None,
    ) -> "Job":  # fmt: skip
        """Pack a directory, send what the backend lacks of it, and return when the job is accepted.

        `command` is a script, or a sequence that begins with one and goes on with its arguments; for
        `["-m", MODULE, ...]` and `["-c", CODE, ...]` as python has them. `gpu`: how many, or a `GPUType`.
        `secrets`: names, or names by the variables the job is to find them in. One `idempotency_key`
        always stands for one job. Files are found as by `chisel python`, from the current directory.

        `BadRequest` and `AssertionError` say what of this cannot be. With `stop` set before the job is
        accepted it raises `InterruptedError`, and the backend may know of the job or not.
        """
        from chisel.bundle import pack
        from chisel.job import Job
        from chisel.layout import locate
        from chisel.spec import build
        from chisel_shared.contract.gpus import GPUType, gpu_type
        from chisel_shared.contract.variables import check_name, check_secret, check_value

        words = [os.fspath(command)] if isinstance(command, str | os.PathLike) else list(command)
        how = words.pop(0) if words[:1] in (["-m"], ["-c"]) else ""
        if not words:
            raise BadRequest("there is no script to submit")
        script, *arguments = words
        try:
            kind = gpu if isinstance(gpu, GPUType) else gpu_type(gpu)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        variables = dict(env or {})
        asked = dict(secrets) if isinstance(secrets, Mapping) else {one: one for one in secrets}
        for variable, value in variables.items():
            check_name(variable)
            check_value(variable, value)
        for variable, secret in asked.items():
            check_secret(variable, secret)
        layout = locate(None if how else script, upload_dir=os.fspath(upload_dir), requirements=requirements)
        with pack(layout.root) as bundle:
            for needed in layout.needed():
                bundle.tree.require(needed)
            spec = build(
                layout=layout,
                bundle=bundle.digest,
                how=how,
                script=script,
                arguments=tuple(arguments),
                gpu=kind,
                app_name=name,
                priority=priority,
                retries=retries,
                retry_on=tuple(retry_on),
                lease_seconds=lease_seconds,
                time_limit_seconds=time_limit_seconds,
                env=variables,
                secrets=asked,
            )
            wake = None if stop is None else stop.wake
            following = self.run(spec, bundle, idempotency_key=idempotency_key, wake=wake)
            try:
                for _ in following:
                    if following.job is not None:
                        return Job(self, following.job)
                    if stop is not None and stop.is_set:
                        raise InterruptedError("stopped before the job was accepted")
            finally:
                following.close()
        assert following.job is not None
        return Job(self, following.job)

    def job(self, job_id: str) -> "Job":
        """One job. Any unambiguous beginning of an id will do, and `@last`."""
        from chisel.job import Job

        return Job(self, self.view(job_id))

    def jobs(self, *, unfinished: bool = False, limit: int = 50) -> "tuple[Job, ...]":
        """The newest `limit` jobs, newest first; with `unfinished`, of those that have not ended."""
        from chisel.job import Job

        return tuple(Job(self, view) for view in self.views(unfinished=unfinished, limit=limit))

    def views(self, *, unfinished: bool = False, limit: int = 50) -> "tuple[JobView, ...]":
        """The same, as they were told."""
        answer = self._http().get_bytes(f"/api/v1/jobs?limit={limit}&unfinished={str(unfinished).lower()}")
        from chisel_shared.contract.messages import Jobs

        return _decoded(answer, Jobs).jobs

    def view(self, job_id: str) -> "JobView":
        """What is to be said about one job."""
        answer = self._http().get_bytes(f"/api/v1/jobs/{self.resolve(job_id)}")
        from chisel_shared.contract.job import JobView

        return _decoded(answer, JobView)

    def cancel(
        self, job_id: str, *, signal: str = "INT", grace_seconds: float | None = None, reason: str = ""
    ) -> "JobView":
        """Ask for the end of a job; one that has ended stays as it is. `signal` comes first; a job that
        goes on for `grace_seconds` gets SIGTERM, then SIGKILL. `reason` is shown with its end."""
        body = b""
        if (signal, grace_seconds, reason) != ("INT", None, ""):
            import json

            wish = {"signal": signal, "grace_seconds": grace_seconds, "reason": reason}
            body = json.dumps(wish).encode()
        answer = self._http().post_bytes(f"/api/v1/jobs/{self.resolve(job_id)}/cancel", body)
        # Only now, while the backend is at it: decoding costs more to load than asking.
        from chisel_shared.contract.job import JobView

        return _decoded(answer, JobView)

    def wait(self, job_id: str) -> "JobView":
        """One job, once it has ended."""
        from chisel.following import Wanted

        following = self.follow(job_id, wanted=Wanted(output=False))
        for _ in following:
            continue
        assert following.job is not None
        return following.job

    def rerun(self, job_id: str, *, idempotency_key: str = "") -> "JobView":
        """A new job with the spec and the files of another. One key always stands for one job."""
        key = idempotency_key or os.urandom(16).hex()
        path = f"/api/v1/jobs/{self.resolve(job_id)}/rerun"
        answer = self._http().post_bytes(path, headers={"Idempotency-Key": key})
        from chisel_shared.contract.messages import Submitted

        return _decoded(answer, Submitted).job

    def why(self, job_id: str) -> "Why":
        """Where a job stands in the queue, and what it waits for."""
        answer = self._http().get_bytes(f"/api/v1/jobs/{self.resolve(job_id)}/why")
        from chisel_shared.contract.messages import Why

        return _decoded(answer, Why)

    def gpus(self) -> "tuple[GpuKind, ...]":
        """What GPUs there are and how many are free, by model."""
        answer = self._http().get_bytes("/api/v1/gpus")
        from chisel_shared.contract.messages import Gpus

        return _decoded(answer, Gpus).kinds

    def traces(self, job_id: str, *, patience_seconds: float | None = None) -> "tuple[TraceView, ...]":
        """The traces of a job by attempt and name: saved, on their way, being recorded or lost.
        `patience_seconds`: give up after so long with `Unavailable`, for who has better things to do."""
        path = f"/api/v1/jobs/{self.resolve(job_id)}/traces"
        if patience_seconds is None:
            answer = self._http().get_bytes(path)
        else:
            from chisel.api import Api

            with Api(url=self.url, key=self._key, patience_seconds=patience_seconds) as api:
                answer = api.get_bytes(path)
        from chisel_shared.contract.messages import Traces

        return _decoded(answer, Traces).traces

    def trace_summary(self, trace: "TraceView") -> "Summary":
        """What storage read off a trace when it arrived. `Conflict` says why there is nothing (yet)."""
        from chisel.trace_files import address

        answer = self._http().get_bytes(address(trace, "/summary"))
        from chisel_shared.traces.report import Summary

        return _decoded(answer, Summary)

    def trace_meta(self, trace: "TraceView") -> "Sidecar":
        """What the capture noted beside a trace. `NotFound` when it noted nothing."""
        from chisel.trace_files import address

        answer = self._http().get_bytes(address(trace, "/meta"))
        from chisel_shared.traces.sidecar import Sidecar

        return _decoded(answer, Sidecar)

    def download_trace(self, trace: "TraceView", folder: str, *, gz: bool = False) -> str:
        """Save a trace in `folder` under its own name, whole and verified; with `gz` as a gzip file, `.gz`
        behind the name. The path of the file. `Conflict` when it is not stored.

        A transfer that breaks is gone on with, and one that was given up by the next call.
        """
        from chisel.api import Api
        from chisel.trace_files import TraceFiles

        with Api(url=self.url, key=self._key) as api:
            return TraceFiles(api=api, folder=folder).save(trace, gz=gz)

    def perfetto(self) -> str | None:
        """The address of the backend's own copy of the Perfetto UI; None when it has none."""
        from chisel_shared.contract.errors import NotFound, Unauthenticated

        try:
            self._http().get_bytes("/perfetto/index.html")
        except (NotFound, Unauthenticated):  # the latter is what a backend of before says
            return None
        return f"{self.url}/perfetto/"

    def outputs(self, job_id: str) -> "Outputs":
        """What a job wrote into `./outputs`, as far as it is stored."""
        answer = self._http().get_bytes(f"/api/v1/jobs/{self.resolve(job_id)}/files")
        from chisel_shared.contract.messages import Outputs

        return _decoded(answer, Outputs)

    def pull(
        self,
        outputs: "Outputs",
        files: "tuple[FileView, ...]",
        folder: str,
        *,
        force: bool = False,
        stopped: Callable[[], bool] = lambda: False,
    ) -> "Iterator[Pulled]":
        """Save `files` of `outputs` below `folder`, whole and verified; yields what became of each. A file
        of the user's own is never replaced, unless with `force`."""
        from chisel.api import Api
        from chisel.pulling import Puller

        with Api(url=self.url, key=self._key) as api:
            puller = Puller(api=api, folder=folder, outputs=outputs, force=force, stopped=stopped)
            yield from puller.pull(files)

    def set_secret(self, name: str, value: bytes) -> "SecretView":
        """Keep `value` for jobs of this project that ask for the secret `name`."""
        from chisel_shared.contract.messages import SecretView
        from chisel_shared.contract.variables import check_secret_name, check_secret_value

        check_secret_name(name)
        check_secret_value(name, value)
        return _decoded(self._http().put_bytes(f"/api/v1/secrets/{name}", value), SecretView)

    def secrets(self) -> "tuple[SecretView, ...]":
        """The project's secrets by name; nobody is told their values but jobs."""
        answer = self._http().get_bytes("/api/v1/secrets")
        from chisel_shared.contract.messages import Secrets

        return _decoded(answer, Secrets).secrets

    def remove_secret(self, name: str) -> None:
        """Forget a secret. `NotFound` when there is none of that name."""
        from chisel_shared.contract.variables import check_secret_name

        check_secret_name(name)
        self._http().delete_bytes(f"/api/v1/secrets/{name}")

    def resolve(self, job_id: str) -> str:
        """`job_id` as it may stand in a path; what it names is the backend's to say."""
        if job_id in LAST:
            return job_id
        if not job_id.isascii() or not job_id.replace("-", "").isalnum():
            raise BadRequest(f"{job_id!r} is not a job's id")
        return job_id.lower()

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _http(self) -> "Api":
        if self._api is None:
            from chisel.api import Api

            self._api = Api(url=self.url, key=self._key)
        return self._api


T = TypeVar("T")


def _decoded(answer: bytes, kind: type[T]) -> T:
    from chisel.api import decoded

    return decoded(answer, kind)
