"""`chisel python`: pack, submit, watch, and exit as the script did."""

import os
from functools import partial
from typing import TYPE_CHECKING

from chisel.cli import wording
from chisel.cli.arguments import Run, parse
from chisel.cli.backend import connect
from chisel.cli.choices import Choices, choose
from chisel.cli.render import Screen
from chisel.cli.values import UsageError
from chisel.cli.variables import Variables, read_variables
from chisel.layout import Layout, locate
from chisel_shared.contract.gpus import gpu_type

if TYPE_CHECKING:
    from chisel.tree import Tree
    from chisel_shared.contract.ids import Digest
    from chisel_shared.contract.job import JobSpec


def run(words: list[str]) -> int:
    """Carry out the command line `words`."""
    asked = parse(words)
    choices = choose(asked)
    screen = Screen(quiet=choices.flag("quiet"), raw=choices.flag("raw"), payload=choices.flag("json"))
    _tell_arguments(screen, asked)
    asks = _asks(choices, screen)
    layout = None if choices.flag("interactive") else _locate(asked, choices)
    if choices.flag("preview"):
        from chisel.cli.preview import preview

        return preview(layout or _locate(asked, choices), screen, as_json=choices.flag("json"))
    _check_retries(choices)
    variables = read_variables(choices)
    client = connect(screen, announced=True)
    if asks or layout is None:
        from chisel.cli.prompt import ask

        choices = ask(asked, choices, screen, client)
        layout = _locate(asked, choices)

    from chisel.bundle import pack
    from chisel.cli.interrupts import Interrupts
    from chisel.cli.watch import Watch
    from chisel.following import Submission

    interrupts = Interrupts()
    following = client.connect(wake=interrupts.wake)
    # From here on the gateway checks the key while we pack.
    try:
        packed = pack(layout.root, seen=partial(_tell_packing, screen, layout), progress=screen.progress)
    finally:
        screen.end_bar()
    with packed as bundle, interrupts:
        spec = _spec(asked, choices, layout, bundle.digest, variables)
        following.submit(Submission(spec, bundle, os.urandom(16).hex()))
        watch = Watch(
            following=following,
            screen=screen,
            interrupts=interrupts,
            cancels=True,
            on_interrupt=choices.text("on_interrupt") or "ask",
            detach=choices.flag("detach"),
            client=client,
        )
        status = watch.run()
        job = following.job
        if job is not None and any(choices.said(key) for key in ("detach", "json", "result")):
            from chisel.cli.report import report

            report(job, choices, screen)
        if job is None or job.end is None or not (job.end.outputs or job.end.outputs_left_out):
            return status
        from chisel.cli.pull import end_of_run

        return end_of_run(
            client=client,
            screen=screen,
            job=job,
            folder=None if choices.flag("no_pull") else os.path.join(layout.root, layout.workdir),
            interrupts=interrupts,
            status=status,
        )


def _asks(choices: Choices, screen: Screen) -> bool:
    """Whether to ask for what is missing: when told to, or when a person sits there, the app name is
    missing and nobody said not to. `UsageError` when told to where nobody could answer."""
    somebody_sits_there = os.isatty(0) and screen.is_terminal
    if choices.said("interactive"):
        if choices.flag("interactive") and not somebody_sits_there:
            raise UsageError("--interactive needs a terminal to ask on")
        return choices.flag("interactive")
    no_questions = any(choices.flag(key) for key in ("quiet", "json", "detach", "preview"))
    return somebody_sits_there and not choices.said("app_name") and not no_questions


def _locate(asked: Run, choices: Choices) -> Layout:
    return locate(
        None if asked.how else asked.script,
        upload_dir=choices.text("upload_dir") or ".",
        requirements=choices.text("requirements"),
    )


def _spec(asked: Run, choices: Choices, layout: Layout, bundle: "Digest", variables: Variables) -> "JobSpec":
    from chisel.spec import build

    return build(
        layout=layout,
        bundle=bundle,
        how=asked.how,
        script=asked.script,
        arguments=asked.script_args,
        interpreter=asked.interpreter,
        gpu=gpu_type(choices.whole("gpu", 1)),
        app_name=choices.text("app_name") or "",
        priority=choices.whole("priority", 0),
        retries=choices.whole("retries", 0),
        retry_on=choices.texts("retry_on"),
        lease_seconds=choices.number("lease"),
        time_limit_seconds=choices.number("time_limit"),
        env=variables.env,
        secrets=variables.secrets,
    )


def _check_retries(choices: Choices) -> None:
    """`UsageError` for what means something only to a job that may run again."""
    for key, name in (("retry_on", "--retry-on"), ("lease", "--lease")):
        if choices.said(key) and not choices.whole("retries", 0):
            raise UsageError(f"{name} needs --retries COUNT: without it a job never runs again")


def _tell_arguments(screen: Screen, asked: Run) -> None:
    if asked.taken:
        screen.note(f"chisel took {' '.join(asked.taken)}; use -- to pass it to the script")
    if asked.passed_on:
        names = " and ".join(asked.passed_on)
        screen.note(f"chisel left {names} to the script; put it before the script to give it to chisel")


def _tell_packing(screen: Screen, layout: Layout, tree: "Tree") -> None:
    for needed in layout.needed():
        tree.require(needed)
    screen.say(f"packing {wording.files(tree.files)}, {wording.size(tree.size_bytes)}", detail=True)
    if tree.secrets:
        names = wording.some(tree.secrets)
        screen.say(
            f"{names} may hold secrets and will be uploaded: leave out with .chiselignore, or use --secret"
        )
    if tree.skipped:
        screen.say(f"left out what is neither file nor folder: {wording.some(tree.skipped)}")
