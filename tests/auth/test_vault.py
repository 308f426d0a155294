"""Sealing: what opens where, and the file the keys lie in."""

import base64
import stat
from pathlib import Path

import pytest

from chisel_auth.vault import BadKeyFile, Place, Sealed, vault_of
from chisel_shared.contract.errors import Conflict
from chisel_shared.contract.ids import ProjectId

PLACE = Place(project_id=ProjectId("p1"), name="HF_TOKEN", version=3)
VALUE = b"hf_\xff\n=\xc3\xa9"


def test_a_value_opens_at_its_place_and_is_not_readable_anywhere(tmp_path: Path) -> None:
    vault = vault_of(tmp_path / "keys")
    sealed = vault.seal(VALUE, PLACE)
    assert VALUE not in sealed.data
    assert vault.open(sealed, PLACE) == VALUE
    assert vault.seal(VALUE, PLACE).data != sealed.data
    assert vault_of(tmp_path / "keys").open(sealed, PLACE) == VALUE, "the next start opens it too"


@pytest.mark.parametrize(
    "elsewhere",
    [{"project_id": ProjectId("p2")}, {"name": "OTHER"}, {"version": 2}],
    ids=["another project's row", "another name's", "an older one"],
)
def test_it_opens_nowhere_else(tmp_path: Path, elsewhere: dict[str, object]) -> None:
    vault = vault_of(tmp_path / "keys")
    sealed = vault.seal(VALUE, PLACE)
    other = Place(**({"project_id": PLACE.project_id, "name": PLACE.name, "version": 3} | elsewhere))  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        vault.open(sealed, other)


def test_a_changed_byte_or_a_lost_key_is_told(tmp_path: Path) -> None:
    vault = vault_of(tmp_path / "keys")
    sealed = vault.seal(VALUE, PLACE)
    broken = Sealed(sealed.key_id, sealed.data[:-1] + bytes([sealed.data[-1] ^ 1]))
    for bad in (broken, Sealed("gone", sealed.data), Sealed(sealed.key_id, b"")):
        with pytest.raises(Conflict, match=r"HF_TOKEN .* set it again"):
            vault.open(bad, PLACE)


def test_a_new_key_before_the_old_one_seals_and_the_old_one_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    before = vault_of(path).seal(VALUE, PLACE)
    path.write_text(f"next {base64.b64encode(b'k' * 32).decode()}\n{path.read_text()}")
    vault = vault_of(path)
    after = vault.seal(VALUE, PLACE)
    assert (before.key_id, after.key_id) != ("next", before.key_id)
    assert after.key_id == "next"
    assert vault.open(before, PLACE) == vault.open(after, PLACE) == VALUE


def test_the_key_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "keys"
    vault = vault_of(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    key = path.read_text().split()[1]
    assert key not in repr(vault)


@pytest.mark.parametrize(
    "content",
    ["", "one", "one not-base64!", "one c2hvcnQ=", f"one {base64.b64encode(bytes(32)).decode()}"],
    ids=["empty", "no key", "no base64", "short", "zeros"],
)
def test_a_file_without_a_good_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(BadKeyFile) as raised:
        vault_of(path)
    assert "c2hvcnQ" not in str(raised.value)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    vault_of(path)
    path.chmod(0o640)
    with pytest.raises(BadKeyFile, match="chmod 600"):
        vault_of(path)
