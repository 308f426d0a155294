"""What travels, as which bytes."""

import gzip
import hashlib
import io
import os
import socket
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chisel import bundle
from chisel.archive import Archive
from chisel.bundle import pack, walk
from chisel_shared.contract import bundles
from chisel_shared.contract.errors import BadRequest, TooLarge


def content(root: Path) -> bytes:
    with pack(str(root)) as packed:
        data = b"".join(packed)
        assert len(data) == packed.size
        assert hashlib.sha256(data).hexdigest() == packed.digest
        return data


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return {member.name: member for member in archive}


def make(root: Path) -> Path:
    (root / "pkg" / "empty").mkdir(parents=True)
    (root / "train.py").write_text("print('hello')\n")
    (root / "run.sh").write_text("true\n")
    (root / "run.sh").chmod(0o700)
    (root / "pkg" / "data.bin").write_bytes(os.urandom(3000))
    return root


def test_the_same_tree_is_the_same_bundle_whenever_and_wherever(tmp_path: Path) -> None:
    first = make(tmp_path / "a")
    second = tmp_path / "elsewhere" / "b"
    for path in sorted(first.rglob("*"), reverse=True):  # made in another order
        copy = second / path.relative_to(first)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(path.stat().st_mode)
            os.utime(copy, (1, 1))
    assert content(first) == content(second) == content(first)


def test_what_a_file_holds_and_is_called_decides(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    seen = {content(root)}
    (root / "train.py").write_text("print('hellO')\n")
    seen.add(content(root))
    (root / "train.py").rename(root / "trains.py")
    seen.add(content(root))
    (root / "trains.py").chmod(0o755)
    seen.add(content(root))
    (root / "pkg" / "empty").rmdir()
    seen.add(content(root))
    assert len(seen) == 5


def test_an_archive_says_nothing_of_this_machine(tmp_path: Path) -> None:
    data = content(make(tmp_path / "a"))
    found = members(data)
    assert list(found) == ["pkg", "pkg/data.bin", "pkg/empty", "run.sh", "train.py"]
    for member in found.values():
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
    assert found["run.sh"].mode == 0o755
    assert found["train.py"].mode == 0o644
    assert data[4:8] == bytes(4)  # gzip's time


@pytest.mark.parametrize(
    "name", [".git", ".venv", "venv", "__pycache__", "node_modules", ".mypy_cache", ".chisel"]
)
def test_what_nobody_wants_to_upload_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "sub" / name).mkdir(parents=True)
    (tmp_path / "sub" / name / "file").touch()
    assert [entry.name for entry in walk(str(tmp_path)).entries] == ["sub"]


def test_links_inside_travel_as_links(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    (root / "pkg" / "up").symlink_to("../train.py")
    (root / "absolute").symlink_to(root / "pkg" / "data.bin")
    (root / "folder").symlink_to("pkg")
    (root / "dangling").symlink_to("pkg/not-yet")
    found = members(content(root))
    targets = {name: found[name].linkname for name in ("pkg/up", "absolute", "folder", "dangling")}
    assert targets == {
        "pkg/up": "../train.py",
        "absolute": "pkg/data.bin",
        "folder": "pkg",
        "dangling": "pkg/not-yet",
    }


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "pkg/../../secret", ".."])
def test_links_that_lead_outside_are_refused(tmp_path: Path, target: str) -> None:
    root = make(tmp_path / "a")
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(target)
    with pytest.raises(BadRequest, match=r"a/link is a link to .*, outside the upload directory"):
        content(root)


def test_a_link_over_another_that_leads_outside_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "a")
    (tmp_path / "outside").mkdir()
    (root / "pkg" / "out").symlink_to(tmp_path / "outside")
    (root / "link").symlink_to("pkg/out/file")
    with pytest.raises(BadRequest, match="outside the upload directory"):
        content(root)


def test_sockets_and_pipes_are_left_out_and_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as listening:
        before = Path.cwd()
        os.chdir(tmp_path)  # a socket's path must be short
        try:
            listening.bind("socket")
        finally:
            os.chdir(before)
        with pack(str(tmp_path)) as packed:
            assert packed.tree.skipped == ("pipe", "socket")
            assert packed.tree.files == 1


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tree = walk(str(tmp_path))
    (tmp_path / "file").unlink()
    with pytest.raises(BadRequest, match="file vanished while it was being packed"):
        pack(str(tmp_path), tree)


def test_a_file_that_became_a_pipe_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    tree = walk(str(tmp_path))
    (tmp_path / "file").unlink()
    os.mkfifo(tmp_path / "file")
    with pytest.raises(BadRequest, match="changed while it was being packed"):
        pack(str(tmp_path), tree)


def test_an_unreadable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    # Root may read everything, so the refusal itself is played.
    monkeypatch.setattr("chisel.bundle.os.open", refuse)
    with pytest.raises(BadRequest, match=r"file cannot be read \(Permission denied\): make it readable"):
        pack(str(tmp_path))


def test_a_file_that_grew_or_shrank(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 10)
    tree = walk(str(tmp_path))
    path.write_bytes(b"x" * 20)  # what counts is what it is when opened
    with pack(str(tmp_path), tree) as packed:
        assert members(b"".join(packed))["log"].size == 20
    with io.FileIO(path) as file, pytest.raises(BadRequest, match="shrank"):
        list(bundle._pieces(file, str(path), 21))


def test_too_much_is_refused_with_the_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").write_bytes(b"x")
    (tmp_path / "large").write_bytes(b"x" * 1000)
    monkeypatch.setattr(bundles, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(TooLarge) as caught:
        walk(str(tmp_path))
    assert str(caught.value).splitlines()[1].endswith("large")


def test_a_large_bundle_goes_over_the_disk_and_stays_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(1 << 20))
    in_memory = content(tmp_path)
    monkeypatch.setattr(bundle, "_MEMORY_BYTES", 1000)
    assert content(tmp_path) == in_memory


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=120)
paths = st.lists(names.filter(lambda n: n not in (".", "..")), min_size=1, max_size=4).map("/".join)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.tuples(st.binary(max_size=2000), st.booleans()), max_size=6))
def test_tar_programs_read_what_was_written(files: dict[str, tuple[bytes, bool]]) -> None:
    sink = io.BytesIO()
    archive = Archive(sink)
    for name, (data, executable) in files.items():
        archive.file(name, [data], size=len(data), executable=executable)
    archive.finish()
    assert len(gzip.decompress(sink.getvalue())) % 10240 == 0
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue()), mode="r:gz") as read:
        found = {}
        for member in read:
            extracted = read.extractfile(member)
            assert extracted is not None
            found[member.name] = (extracted.read(), bool(member.mode & stat.S_IXUSR))
    assert found == files


def test_names_that_are_no_text_and_long_links() -> None:
    sink = io.BytesIO()
    archive = Archive(sink)
    raw = os.fsdecode(b"caf\xe9.py")
    archive.file(raw, [b"x"], size=1, executable=False)
    archive.symlink("link", "t/" * 80)
    archive.folder("f" * 99)
    archive.finish()
    found = members(sink.getvalue())
    assert found["link"].linkname == "t/" * 80
    assert found["f" * 99].isdir()
    assert raw in found


def test_a_size_beyond_eight_gibibytes_is_written_as_pax() -> None:
    sink = io.BytesIO()
    archive = Archive(sink)
    archive._header("huge", kind=b"0", mode=0o644, size=9 << 30)
    archive.finish()
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue()), mode="r:gz", ignore_zeros=True) as read:
        member = read.next()
        assert member is not None
        assert member.size == 9 << 30


def test_the_data_of_a_local_stack_never_travels(tmp_path: Path) -> None:
    (tmp_path / "deep" / "stack").mkdir(parents=True)
    (tmp_path / "deep" / "stack" / "key").write_text("secret")
    (tmp_path / "job.py").touch()
    tree = walk(str(tmp_path), without=str(tmp_path / "deep" / "stack"))
    assert [entry.name for entry in tree.entries] == ["deep", "job.py"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (b"back\\slash", "backslash"),
        (b"new\nline", "control character"),
        (b"caf\xe9.py", "is not UTF-8"),
        (b"/".join([b"d"] * 65), "64 folders deep"),
    ],
)
def test_a_name_that_no_agent_would_unpack_is_refused_here(tmp_path: Path, name: bytes, says: str) -> None:
    path = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).touch()
    with pytest.raises(BadRequest, match=says) as caught:
        walk(str(tmp_path))
    str(caught.value).encode()  # it can be shown
    assert os.path.basename(path).decode(errors="backslashreplace")[:3] in str(caught.value)


def test_a_link_to_what_is_no_text_is_refused_here(tmp_path: Path) -> None:
    os.symlink(b"caf\xe9.py", os.fsencode(tmp_path / "link"))
    with pytest.raises(BadRequest, match="link is a link whose target is not UTF-8"):
        pack(str(tmp_path))


def test_a_bundle_larger_than_storage_takes_is_refused_while_packing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noise").write_bytes(os.urandom(100_000))
    monkeypatch.setattr(bundles, "MAX_BYTES", 50_000)
    with pytest.raises(TooLarge, match=r"packs to more than .*\n.* noise"):
        pack(str(tmp_path))
