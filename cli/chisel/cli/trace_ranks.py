"""The ranks of a job side by side, for the terminal. Pure: lines of text, nothing here prints."""

from chisel.cli.trace_paper import Paper, table, times
from chisel_shared.traces import words
from chisel_shared.traces.report import Ranks

TOP = 8


def ranks(found: Ranks, paper: Paper, *, top: int = TOP) -> list[str]:
    """A row a rank, who makes the others wait, and in which collectives."""
    lines = [paper.bold(line) for line in paper.wrapped(straggler(found))]
    for note in found.notes:
        lines += [paper.bad(line) for line in paper.wrapped(note, first="!    ", then="     ")]
    unit, walls = times([rank.wall_us for rank in found.ranks])
    wait_unit, waits = times([rank.wait_us for rank in found.ranks])
    rows = []
    for rank, wall, wait in zip(found.ranks, walls, waits, strict=True):
        busy = words.share(rank.gpu.busy_us / rank.wall_us) if rank.wall_us else "-"
        last = f"{rank.arrives_last:,} of {rank.collectives:,}" if rank.collectives else "-"
        comm = words.time(rank.gpu.exposed_comm_us)
        rows.append((str(rank.rank), wall, busy, comm, wait, last))
    styles = [paper.bad if rank.rank == found.straggler else None for rank in found.ranks]
    heading = ("RANK", f"WALL {unit}", "GPU BUSY", "EXPOSED COMM", f"WAITS {wait_unit}", "ARRIVES LAST")
    lines += ["", *table(paper, heading, rows, styles=styles, drop=(3, 2))]
    return lines + _collectives(found, paper, top)


def straggler(found: Ranks) -> str:
    """Who makes the others wait, in a sentence."""
    late = next((rank for rank in found.ranks if rank.rank == found.straggler), None)
    if late is None:
        return f"{words.count(len(found.ranks), 'rank')}: none of them makes the others wait"
    waits = sum(rank.wait_us for rank in found.ranks if rank is not late)
    return (
        f"Rank {late.rank} makes the others wait: it arrives last in {late.arrives_last:,} of"
        f" {late.collectives:,} collectives, and they wait {words.time(waits)} in all"
    )


def _collectives(found: Ranks, paper: Paper, top: int) -> list[str]:
    shown = found.collectives[:top]
    if not shown:
        return []
    wait_unit, waits = times([one.wait_us for one in shown])
    unit, transfers = times([one.transfer_us for one in shown])
    rows = [
        (one.name, f"{one.count:,}", f"{one.elements:,}", wait, transfer, one.group or "-")
        for one, wait, transfer in zip(shown, waits, transfers, strict=True)
    ]
    heading = ("COLLECTIVES", "COUNT", "ELEMENTS", f"WAITS {wait_unit}", f"TRANSFER {unit}", "GROUP")
    lines = ["", *table(paper, heading, rows, drop=(5, 2), left=(0, 5))]
    left = len(found.collectives) - len(shown)
    return [*lines, *([paper.dim(f"and {left:,} more kinds")] if left > 0 else [])]
