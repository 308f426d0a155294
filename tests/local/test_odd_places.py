"""Stacks in folders, and on terminals, that are not what one hopes for."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chisel.local import jobs
from tests.local.conftest import LocalStack

ODD_NAME = 'it\'s "odd"\n\\%s, {here} $HOME'


@pytest.mark.parametrize("verb", ["up", "ps", "status"])
def test_a_folder_that_is_a_file_is_one_sentence(fresh: LocalStack, verb: str) -> None:
    fresh.folder.write_text("in the way")
    done = fresh.chisel(verb)
    assert done.returncode == 125
    assert f"the local stack cannot use {fresh.folder}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["/proc/nowhere", "/dev/full/below"])
def test_a_folder_that_cannot_be_made_is_one_sentence(fresh: LocalStack, path: str) -> None:
    done = fresh.chisel("up", env={"CHISEL_LOCAL_DIR": path})
    assert done.returncode == 125
    assert f"the local stack cannot use {path}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_is_no_text_is_refused_before_anything_starts(fresh: LocalStack) -> None:
    fresh.folder = fresh.folder.with_name("odd\udcff")
    done = fresh.chisel("up")
    assert done.returncode == 125
    assert "is not UTF-8 text" in done.stderr
    assert not fresh.folder.exists()


def test_a_path_with_letters_that_mean_something_elsewhere_is_a_path(fresh: LocalStack) -> None:
    fresh.folder = fresh.folder.with_name(ODD_NAME)
    fresh.up()
    assert not Path(fresh.state.sockets).is_relative_to(fresh.folder)


def test_a_terminal_that_is_gone_does_not_leave_the_services_alone(fresh: LocalStack) -> None:
    with fresh.spawn("up", "--foreground") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert "Chisel runs at" in running.stdout.readline()
        running.stderr.close()
        running.send_signal(signal.SIGHUP)
        running.wait(timeout=60)
    assert fresh.left() == []


def test_a_shim_that_was_stopped_goes_on_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "attempt").mkdir()
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
    command = [sys.executable, "-c", code, "chisel_agent.shim_factory"]
    with subprocess.Popen(command, cwd=tmp_path / "attempt") as shim:
        os.waitid(os.P_PID, shim.pid, os.WSTOPPED)
        jobs.kill_leftovers(tmp_path)
        assert shim.wait(timeout=60) == 0


def test_nobody_has_to_read_what_up_says(fresh: LocalStack) -> None:
    process = fresh.spawn("up")
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=90)
    assert process.returncode == 0
    assert stderr == ""
