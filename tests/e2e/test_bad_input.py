"""Bad input: a clear sentence, an exit code, nothing lost."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from chisel.local import servers
from tests.e2e.scripts import write
from tests.support.cluster import Cluster

pytestmark = pytest.mark.e2e


def test_the_script_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.run(["python", "nowhere.py"], cwd=tmp_path)
    assert done.returncode == 2, "as python itself says it"
    assert b"nowhere.py" in done.stderr


def test_the_script_is_a_directory(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    done = cluster.run(["python", "folder.py"], cwd=tmp_path)
    assert done.returncode == 2
    assert b"is a directory" in done.stderr


def test_the_script_is_outside_the_upload_directory(cluster: Cluster, tmp_path: Path) -> None:
    script = write(tmp_path, "job.py", "pass\n").resolve()
    upload = (tmp_path / "upload").resolve()
    upload.mkdir()
    done = cluster.run(["python", "job.py", "--upload-dir", "upload"], cwd=tmp_path)
    assert done.returncode != 0
    assert f"Script {script} is not inside upload_dir {upload}".encode() in done.stderr


@pytest.mark.parametrize("count", ["3", "0", "many", "-1"])
def test_a_number_of_gpus_nobody_offers(cluster: Cluster, tmp_path: Path, count: str) -> None:
    write(tmp_path, "job.py", "pass\n")
    done = cluster.run(["python", "job.py", f"--gpu={count}"], cwd=tmp_path)
    assert done.returncode == 2
    assert b"1, 2, 4" in done.stderr


def test_requirements_by_default_may_be_absent_but_not_when_named(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    assert cluster.run(["python", "job.py"], cwd=tmp_path).returncode == 0
    done = cluster.run(["python", "job.py", "-r", "reqs.txt"], cwd=tmp_path)
    assert done.returncode != 0
    assert b"reqs.txt" in done.stderr


def test_a_package_that_does_not_exist(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    # No index at all: the answer is the same and needs no network.
    (tmp_path / "requirements.txt").write_text("--no-index\nno-such-package-of-ours==1.0\n")
    done = cluster.run(["python", "job.py", "-a", "nodeps"], cwd=tmp_path)
    assert done.returncode == 125
    assert b"requirements could not be installed" in done.stderr
    assert b"no-such-package-of-ours" in done.stderr, "the installer's last lines are shown"
    job = cluster.job("nodeps")
    assert (job["state"], job["end"]["reason"]) == ("failed", "deps")


def test_an_unreadable_file(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    (tmp_path / "secret").touch(mode=0)
    # Root reads every file, so it gives that up.
    done = cluster.spawn(["python", "job.py"], cwd=tmp_path, prefix=servers.unprivileged()).finish()
    assert done.returncode == 125
    assert b"secret cannot be read (Permission denied)" in done.stderr


def test_a_link_to_nowhere_or_outside(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    (tmp_path / "out").symlink_to("/etc/passwd")
    done = cluster.run(["python", "job.py"], cwd=tmp_path)
    assert done.returncode == 125
    assert b"out" in done.stderr


def test_the_gateway_is_down(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    url = "http://127.0.0.1:1"
    done = cluster.run(["python", "job.py"], cwd=tmp_path, env={"CHISEL_BACKEND_URL": url})
    assert done.returncode == 125
    assert url.encode() in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_wrong_key(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    done = cluster.run(["python", "job.py"], cwd=tmp_path, env={"CHISEL_API_KEY": "chsl_usr_wrong"})
    assert done.returncode == 125
    assert b"key" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_upload_cut_half_way_leaves_nothing(cluster: Cluster) -> None:
    import http.client
    import socket

    digest = "ab" * 32
    host, port = cluster.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(
            f"PUT /api/v1/bundles/{digest} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {cluster.key}\r\n"
            "Content-Length: 1000000\r\n\r\n".encode()
            + b"x" * 500_000
        )
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(
        "HEAD", f"/api/v1/bundles/{digest}", headers={"Authorization": f"Bearer {cluster.key}"}
    )
    assert connection.getresponse().status == 404
    connection.close()


def _post(cluster: Cluster, spec: dict[str, object], key: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{cluster.url}/api/v1/jobs",
        data=json.dumps(spec).encode(),
        headers={
            "Authorization": f"Bearer {cluster.key}",
            "Idempotency-Key": key,
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_two_submits_with_one_idempotency_key(cluster: Cluster, tmp_path: Path) -> None:
    write(tmp_path, "job.py", "pass\n")
    cluster.run(["python", "job.py", "-a", "donor"], cwd=tmp_path)
    bundle = cluster.bundle_of("donor")
    spec: dict[str, object] = {
        "app_name": "twice",
        "argv": ["python", "job.py"],
        "gpu": "A100-80GB:1",
        "bundle": bundle,
    }
    _, first = _post(cluster, spec, "key-1")
    _, second = _post(cluster, spec, "key-1")
    assert (first["created"], second["created"]) == (True, False)
    assert first["job"]["id"] == second["job"]["id"]
    status, refused = _post(cluster, {**spec, "app_name": "another"}, "key-1")
    assert status == 409, refused
