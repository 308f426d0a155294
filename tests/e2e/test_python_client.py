"""The Python client against real processes: the examples of its page, and what is hard about it."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

import chisel
from tests.support.cluster import Cluster
from tests.support.source import ROOT

pytestmark = pytest.mark.e2e

PAGE = ROOT / "docs" / "howto" / "python-client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
PRINTS = [
    "epoch 1\nepoch 2\nepoch 3\nsucceeded 0\n",
    "sweep-1 0 exit\nsweep-2 0 exit\n2 True\n",
    "['succeeded', 'succeeded']\nepoch 1\nepoch 2\n",
    "there is no job '0000000000'",
]
TRAIN = "import sys\nfor n in range(int(sys.argv[2])): print('epoch', n + 1)\n"
ENDLESS = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.1)\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "endless.py").write_text(ENDLESS)
    return tmp_path


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(project / "home"))
    return project


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page(cluster: Cluster, project: Path, number: int) -> None:
    assert len(EXAMPLES) == len(PRINTS)
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]],
        cwd=project, env=cluster.environment(), capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(PRINTS[number])


def test_a_job_is_followed_waited_for_and_cancelled(cluster: Cluster, here: Path) -> None:
    with chisel.Client(url=cluster.url, api_key=cluster.key) as client:
        job = client.submit("endless.py")
        assert next(job.logs()) == "begun"
        with pytest.raises(TimeoutError):
            job.wait(timeout=0)
        assert job.exit_status is None
        assert job.status().state is chisel.JobState.RUNNING
        assert job.id in {one.id for one in client.jobs(unfinished=True)}
        job.cancel(reason="seen enough")
        assert job.wait().cancel_reason == "seen enough"
        assert job.view.end is not None
        assert job.view.end.reason is chisel.EndReason.USER


def test_outputs_and_environment(cluster: Cluster, here: Path) -> None:
    code = "import os; os.mkdir('outputs'); open('outputs/x', 'w').write(os.environ['WORD'])"
    with chisel.Client(url=cluster.url, api_key=cluster.key) as client:
        job = client.submit(["-c", code], env={"WORD": "grün"})
        assert job.wait().state is chisel.JobState.SUCCEEDED
        assert [one.path for one in job.pull(folder=here / "got")] == ["x"]
        assert not job.traces()
        assert not job.download_traces()
    assert (here / "got" / "x").read_text(encoding="utf-8") == "grün"


def test_what_cannot_be_is_said_before_anything_is_sent(cluster: Cluster, here: Path) -> None:
    with chisel.Client(url=cluster.url, api_key=cluster.key) as client:
        for wrong in ({"gpu": 3}, {"env": {"CHISEL_X": ""}}, {"upload_dir": "nowhere"}):
            with pytest.raises(chisel.BadRequest):
                client.submit("train.py", **wrong)
        (here / "sub").mkdir()
        with pytest.raises(AssertionError, match="is not inside upload_dir"):
            client.submit("train.py", upload_dir="sub")


async def test_a_cancelled_task_stops_following_at_once(cluster: Cluster, here: Path) -> None:
    async with chisel.AsyncClient(url=cluster.url, api_key=cluster.key) as client:
        job = await client.submit("endless.py")
        begun = asyncio.Event()

        async def follow() -> None:
            async for line in job.logs():
                assert line == "begun"
                begun.set()

        following, waiting = asyncio.create_task(follow()), asyncio.create_task(job.wait())
        await begun.wait()
        for task in (following, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(TimeoutError):
            await job.wait(timeout=0)
        await job.cancel()
        assert (await job.wait()).state is chisel.JobState.CANCELLED
        assert job.exit_status == 130
