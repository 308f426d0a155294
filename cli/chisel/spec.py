"""What a job is told to run, made the same way for the command line and for programs."""

import os

from chisel.layout import Layout

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is; the contract is loaded when a job is described
if TYPE_CHECKING:
    from chisel_shared.contract.gpus import GPUType
    from chisel_shared.contract.ids import Digest
    from chisel_shared.contract.job import JobSpec


def build(
    *,
    layout: Layout,
    bundle: "Digest",
    how: str,
    script: str,
    arguments: tuple[str, ...],
    gpu: "GPUType",
    interpreter: tuple[str, ...] = (),
    app_name: str = "",
    priority: int = 0,
    retries: int = 0,
    retry_on: tuple[str, ...] = (),
    lease_seconds: float | None = None,
    time_limit_seconds: float | None = None,
    env: dict[str, str] | None = None,
    secrets: dict[str, str] | None = None,
) -> "JobSpec":
    """The description of a job: `how` is empty for a script, which `layout` has found, `-m` or `-c`."""
    from chisel_shared.contract.job import JobSpec

    target = (how, script) if how else (layout.script,)
    argv = ("python", *interpreter, *target, *arguments)
    exact: tuple[bytes, ...] = ()
    if not all(_is_text(word) for word in argv):
        exact = tuple(os.fsencode(word) for word in argv)
        argv = tuple(word.decode(errors="replace") for word in exact)
    return JobSpec(
        app_name=app_name or default_name(how, script),
        argv=argv,
        exact_argv=exact,
        gpu=gpu.value,
        bundle=bundle,
        workdir=layout.workdir,
        requirements=layout.requirements,
        priority=priority,
        retries=retries,
        retry_on=retry_on,
        lease_seconds=lease_seconds,
        time_limit_seconds=time_limit_seconds,
        env=env or {},
        secrets=secrets or {},
    )


def default_name(how: str, script: str) -> str:
    """What a job is called that nobody named: its script's or module's name."""
    if how == "-c":
        return "code"
    name = script if how else script.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    # A file may be called what no name may be.
    return "".join(c if c.isprintable() else "?" for c in name)[:200] or "job"


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
