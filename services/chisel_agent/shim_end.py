"""How an end reads: the reason and what there is to say about it. Standard library only (see `shim.py`)."""

from chisel_agent import shim_cgroup
from chisel_agent.shim_system import SIGKILL, free_bytes

FULL_BYTES = 16 << 20
"""With less room than this whatever a script writes next is likely to fail."""


def account(
    reason: str, code: int | None, signal: int | None, cgroups: list[str], *, machine_kills: int, disk: str
) -> tuple[str, list[str]]:
    """`verdict`, with what the kernel counted for the job, and how full the disk of the folder `disk` is."""
    return verdict(
        reason,
        code,
        signal,
        kills=shim_cgroup.oom_kills(cgroups),
        machine_kills=machine_kills,
        peak_bytes=shim_cgroup.memory_peak(cgroups),
        room_bytes=free_bytes(disk),
    )


def verdict(
    reason: str,
    code: int | None,
    signal: int | None,
    *,
    kills: int | None,
    machine_kills: int,
    peak_bytes: int = 0,
    room_bytes: int | None = None,
) -> tuple[str, list[str]]:
    """The reason of an end and what people should know besides, a clause each.

    `reason` is why we ended the job, "" when we did not. `kills` counts the job's processes that the kernel
    killed for want of memory, None where it does not count that for a job; `machine_kills` everybody's.
    """
    ended_by_kill = signal == SIGKILL or code == 128 + SIGKILL  # a shell's word for its command's death
    hints = []
    if not reason:
        reason = "exit" if code is not None else "signal"
        if kills and ended_by_kill:
            reason = "oom"
            if peak_bytes:
                hints.append(f"it had {peak_bytes / (1 << 30):.1f} GiB at most")
        elif kills is None and ended_by_kill:
            hints.append(
                "memory ran out on its machine meanwhile: it is likely that this was the cause"
                if machine_kills
                else "this machine does not count a job's memory: it may have run out"
            )
    if kills and reason != "oom":
        which = "one of its processes" if kills == 1 else f"{kills} of its processes"
        hints.append(f"the kernel killed {which} for want of memory")
    if room_bytes is not None and room_bytes < FULL_BYTES and code:
        hints.append(f"the disk of its agent is full: {room_bytes >> 10} KiB are free")
    return reason, hints
