"""What travels, in which packs, and what is read and made again when a directory is packed again."""

import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chisel import bundle as module
from chisel import contents, stat_cache
from chisel.bundle import Bundle, pack
from chisel.stat_cache import Cache, Mark
from chisel_shared.contract import manifest
from chisel_shared.contract.errors import BadRequest
from chisel_shared.contract.manifest import File, Folder
from tests.cli.packing import Packing, whole
from tests.support.packs import members, sha256


@pytest.fixture
def packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packing:
    # Every file of a test is written in the moment before it is packed; that has tests of its own.
    monkeypatch.setattr(Mark, "may_still_change", lambda mark, read_at_ns: False)
    return Packing(tmp_path)


def listed(made: Bundle) -> dict[str, manifest.Entry]:
    return {entry.path: entry for entry in manifest.decode(made.manifest).entries}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of every file that is opened to be read."""
    opened: list[str] = []
    real = contents._open

    def noted(name: str, path: str) -> object:
        opened.append(name)
        return real(name, path)

    monkeypatch.setattr(contents, "_open", noted)
    return opened


def test_what_is_there_is_what_arrives(packing: Packing) -> None:
    packing.write("train.py", "print('hello')\n")
    packing.write("run.sh", "true\n").chmod(0o700)
    packing.write("pkg/data.bin", b"\0\xff" * 5000)
    packing.write("pkg/same.bin", b"\0\xff" * 5000)
    packing.write("pkg/__init__.py", "")
    (packing.root / "pkg" / "nothing").mkdir()
    with packing.pack() as made:
        assert packing.unpacked(made) == {
            "train.py": b"print('hello')\n",
            "run.sh": b"true\n",
            "pkg/data.bin": b"\0\xff" * 5000,
            "pkg/same.bin": b"\0\xff" * 5000,
            "pkg/__init__.py": b"",
        }
        found = listed(made)
        assert [path for path, entry in found.items() if isinstance(entry, Folder)] == ["pkg", "pkg/nothing"]
        assert [p for p, e in found.items() if isinstance(e, File) and e.executable] == ["run.sh"]
        [only] = made.packs
        assert len(members(whole(made, only))) == 3  # equal content is packed once, empty content never


trees = st.dictionaries(
    st.lists(st.text("abcé. ", min_size=1, max_size=3), min_size=1, max_size=3).map("/".join),
    st.tuples(st.binary(max_size=50), st.booleans()),
    max_size=8,
)


def usable(files: dict[str, tuple[bytes, bool]]) -> bool:
    parts = [part for name in files for part in name.split("/")]
    below = any(other.startswith(name + "/") for name in files for other in files)
    return not below and not any(part in (".", "..") for part in parts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees.filter(usable), st.randoms())
def test_the_same_tree_is_the_same_bundle_whenever_and_wherever(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, tuple[bytes, bool]], chance: random.Random
) -> None:
    digests = set()
    for turn in range(2):
        place = Packing(tmp_path_factory.mktemp("tree"))
        names = list(files)
        chance.shuffle(names)
        for name in names:
            path = place.write(name, files[name][0])
            path.chmod(0o755 if files[name][1] else 0o600 >> turn << turn)
            os.utime(path, (turn, turn))
        with place.pack() as made:
            digests.add((made.digest, tuple(made.packs)))
            assert place.unpacked(made) == {name: content for name, (content, _) in files.items()}
    assert len(digests) == 1


def test_what_a_file_holds_and_is_called_decides(packing: Packing) -> None:
    path = packing.write("train.py", "print('hello')\n")
    (packing.root / "empty").mkdir()
    seen = {packing.pack().digest}
    path.write_text("print('hellO')\n")
    seen.add(packing.pack().digest)
    path = path.rename(packing.root / "trains.py")
    seen.add(packing.pack().digest)
    path.chmod(0o755)
    seen.add(packing.pack().digest)
    (packing.root / "empty").rmdir()
    seen.add(packing.pack().digest)
    assert len(seen) == 5


def test_nothing_of_an_unchanged_directory_is_read_or_made(packing: Packing, reads: list[str]) -> None:
    for number in range(20):
        packing.write(f"d/{number}", f"{number}" * 100)
    first = packing.sent()
    reads.clear()
    with packing.pack() as again:
        assert again.digest == first.digest
        assert again.new == []
        assert not again._store._held
    assert reads == []


def test_of_a_directory_with_one_change_only_that_is_packed(packing: Packing, reads: list[str]) -> None:
    for number in range(20):
        packing.write(f"d/{number}", f"{number}" * 100)
    packing.sent()
    reads.clear()
    packing.write("d/7", "changed")
    with packing.pack() as changed:
        assert changed.new == ["d/7"]
        assert packing.unpacked(changed)["d/7"] == b"changed"
    assert set(reads[:2]) == {"d/7"}
    assert packing.new_packs() == [{sha256(b"changed"): b"changed"}]


def test_a_file_that_moved_or_was_copied_is_not_packed_again(packing: Packing) -> None:
    packing.write("a", "content of a").rename(packing.write("b/c", ""))
    packing.sent()
    packing.write("new/place", "content of a")
    (packing.root / "b" / "c").rename(packing.root / "d")
    assert packing.new_packs() == []


def test_many_changes_leave_few_packs_and_pack_little_again(packing: Packing) -> None:
    chance = random.Random(4)
    for number in range(100):
        packing.write(f"{number}", chance.randbytes(20_000))
    packing.sent()
    counts = []
    packed = 0
    for turn in range(120):
        packing.write(f"{chance.randrange(100)}", chance.randbytes(20_000))
        packed += sum(len(content) for pack in packing.new_packs() for content in pack.values())
        counts.append(len(stat_cache.load(str(packing.cache), str(packing.root)).packs))
        del turn
    assert max(counts) <= module._MANY_SMALL + 2
    assert packed < 120 * 20_000 * 4
    with packing.pack() as last:
        assert packing.unpacked(last) == {path.name: path.read_bytes() for path in packing.root.iterdir()}


def test_a_pack_mostly_of_what_is_gone_is_not_kept(packing: Packing) -> None:
    for number in range(10):
        packing.write(f"{number}", f"{number}" * 2000)
    packing.sent()
    for number in range(4):
        (packing.root / f"{number}").unlink()
    assert packing.new_packs() == []
    for number in range(4, 8):
        (packing.root / f"{number}").unlink()
    assert [len(pack) for pack in packing.new_packs()] == [2]


def test_packs_are_bounded_and_a_large_file_has_its_own(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in (contents, module):
        monkeypatch.setattr(where, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(contents, "PACK_BYTES", 10_752)
    content = random.Random(5).randbytes(25_000)
    for name in ("a", "c", "d", "e"):
        packing.write(name, name * 4000)
    packing.write("b", content)
    sizes = [[len(chunk) for chunk in pack.values()] for pack in packing.new_packs()]
    assert sizes == [[4000], [10_000], [10_000], [5000, 4000], [4000, 4000]]
    packing.write("b", content + b"appended")
    # The last pack is of no use but for the start of another file, which comes along.
    assert [list(pack.values()) for pack in packing.new_packs()] == [
        [content[20_000:] + b"appended", b"c" * 4000]
    ]


def test_what_a_backend_forgot_is_made_again_byte_for_byte(packing: Packing) -> None:
    packing.write("a", "a" * 1000)
    packing.sent()
    with packing.pack() as again:
        assert {digest: again.content(digest) for digest in again.packs} == packing.backend


def test_what_cannot_be_made_again_is_packed_anew(packing: Packing) -> None:
    for name in "abc":
        packing.write(name, name * 1000)
    packing.sent()
    packing.write("c", "changed")
    with packing.pack() as made:
        old = made.digest
        [gone] = [digest for digest in made.packs if made.content(digest) is None]
        del packing.backend[gone]
        made.forget([gone])
        assert made.digest != old
        assert gone not in made.packs
        assert packing.unpacked(made) == {"a": b"a" * 1000, "b": b"b" * 1000, "c": b"changed"}


# The cache


def damaged(change: Callable[[Path], object]) -> Callable[[Packing], None]:
    def damage(packing: Packing) -> None:
        [path] = packing.cache.iterdir()
        change(path)

    return damage


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        damaged(lambda path: path.unlink()),
        damaged(lambda path: path.write_bytes(b"")),
        damaged(lambda path: path.write_bytes(path.read_bytes()[:-20])),
        damaged(lambda path: path.write_bytes(path.read_bytes().replace(b"a", b"b"))),
        damaged(lambda path: path.write_bytes(os.urandom(1000))),
        damaged(replace_by_folder),
    ],
    ids=["missing", "empty", "short", "changed", "noise", "a folder"],
)
def test_a_cache_that_is_none_costs_time_alone(packing: Packing, damage: Callable[[Packing], None]) -> None:
    packing.write("a", "aaaa")
    first = packing.sent()
    damage(packing)
    with packing.pack() as again:
        assert again.digest == first.digest
        assert packing.unpacked(again) == {"a": b"aaaa"}
        again.stored()


def test_a_cache_that_cannot_be_written_stops_nobody(packing: Packing) -> None:
    packing.cache.write_text("a file where the folder should be")
    packing.write("a", "aaaa")
    packing.sent()


def test_the_cache_is_the_users_own(packing: Packing) -> None:
    packing.write("a", "aaaa")
    packing.sent()
    [path] = packing.cache.iterdir()
    assert stat.S_IMODE(packing.cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_at_once_leave_a_cache(packing: Packing) -> None:
    for number in range(50):
        packing.write(f"{number}", f"{number}")
    threads = [threading.Thread(target=packing.sent) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [path] = packing.cache.iterdir()
    assert len(stat_cache.load(str(packing.cache), str(packing.root)).files) == 50
    assert path.name.startswith("tree-")


def test_a_file_written_just_now_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    packing = Packing(tmp_path)
    path = packing.write("a", "aaaa")
    status = path.stat()
    packing.sent()
    path.write_text("bbbb")  # within the same tick of the file system's clock, as it would be
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    reads.clear()
    with packing.pack() as made:
        assert reads[0] == "a"
        assert packing.unpacked(made) == {"a": b"bbbb"}


@pytest.mark.parametrize(
    ("mtime_ns", "ctime_ns", "read_at_ns", "may"),
    [
        (1_000_000_001, 1_000_000_001, 1_000_000_001, True),
        (1_000_000_001, 1_000_000_001, 1_090_000_000, True),
        (1_000_000_001, 1_000_000_001, 1_200_000_000, False),
        (1_000_000_000, 1_000_000_000, 2_500_000_000, True),  # a clock of whole seconds
        (1_000_000_000, 1_000_000_000, 3_500_000_000, False),
        (1_000_000_001, 9_000_000_001, 5_000_000_000, True),  # renamed or copied over since
        (9_000_000_001, 1_000_000_001, 5_000_000_000, True),  # from the future
    ],
)
def test_when_a_mark_may_be_believed(mtime_ns: int, ctime_ns: int, read_at_ns: int, *, may: bool) -> None:
    assert Mark(1, mtime_ns, ctime_ns, 1).may_still_change(read_at_ns) is may


def test_a_cache_of_another_version_is_none(tmp_path: Path) -> None:
    stat_cache.save(str(tmp_path), "/x", Cache(version=99, files={}))
    assert stat_cache.load(str(tmp_path), "/x") == Cache()


# Files that change meanwhile


def test_a_file_that_changes_between_reading_and_packing_is_read_again(
    packing: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packing.write("a", "before")
    real = contents.pack

    def changing(places: object) -> object:
        monkeypatch.setattr(contents, "pack", real)
        path.write_text("after!")
        return real(places)  # type: ignore[arg-type]

    monkeypatch.setattr(contents, "pack", changing)
    with packing.pack() as made:
        assert packing.unpacked(made) == {"a": b"after!"}


def test_a_file_that_never_stops_changing_is_named(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packing.write("a", "0")
    real = contents.pack

    def changing(places: object) -> object:
        path.write_bytes(os.urandom(8))
        return real(places)  # type: ignore[arg-type]

    monkeypatch.setattr(contents, "pack", changing)
    with pytest.raises(BadRequest, match=r"root/a changes while it is being packed: stop what writes it"):
        packing.pack()


def test_a_file_that_grows_is_taken_as_it_was(packing: Packing, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packing.write("log", "one line\n")
    real = contents._piece

    def growing(*arguments: object) -> bytes:
        data = real(*arguments)  # type: ignore[arg-type]
        with path.open("a") as file:
            file.write("another line\n")
        return data

    monkeypatch.setattr(contents, "_piece", growing)
    with packing.pack() as made:
        assert packing.unpacked(made) == {"log": b"one line\n"}
        made.stored()
    monkeypatch.setattr(contents, "_piece", real)
    with packing.pack() as again:
        assert packing.unpacked(again) == {"log": b"one line\nanother line\n"}


@pytest.mark.parametrize("becomes", ["gone", "a pipe", "shorter"])
def test_a_file_that_becomes_something_else(packing: Packing, becomes: str) -> None:
    path = packing.write("file", "content")

    def meanwhile(tree: object) -> None:
        path.unlink()
        if becomes == "a pipe":
            os.mkfifo(path)
        elif becomes == "shorter":
            path.write_text("c")

    def seen() -> Bundle:
        return pack(str(packing.root), seen=meanwhile, cache_folder=str(packing.cache))

    if becomes == "shorter":
        assert packing.unpacked(seen()) == {"file": b"c"}
    else:
        with pytest.raises(BadRequest, match=r"file (vanished|changed) while it was being packed"):
            seen()
