"""Sealing: AES-256-GCM under a key that lies in a file and never in the database.

Project, name and version are sealed with a value as associated data, so that a row copied to another
place in the table does not open there. The file has a key a line, `<id> <32 bytes in base64>`: the first
seals, the others open what they sealed before, which is how an operator changes the key.
"""

import base64
import binascii
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from chisel_auth.token_file import write_unless_there
from chisel_shared.contract.errors import Conflict
from chisel_shared.contract.ids import ProjectId, new_id
from chisel_shared.runtime.logs import Log

log = Log("chisel.auth.vault")

_KEY_BYTES, _NONCE_BYTES, _KEY_ID_CHARS = 32, 12, 8
_MAX_FILE_BYTES = 64 * 1024


class BadKeyFile(Exception):
    """A key file holds no key; refused, because nothing may be sealed with an empty or default one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a value belongs; it opens nowhere else."""

    project_id: ProjectId
    name: str
    version: int

    def encoded(self) -> bytes:
        return msgspec.json.encode([self.project_id, self.name, self.version])


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is stored of a value: a nonce and behind it the ciphertext."""

    key_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals with the first of `keys`, opens with any."""

    keys: Mapping[str, Any] = field(repr=False)

    def seal(self, value: bytes, place: Place) -> Sealed:
        key_id, cipher = next(iter(self.keys.items()))
        nonce = os.urandom(_NONCE_BYTES)
        return Sealed(key_id, nonce + cipher.encrypt(nonce, value, place.encoded()))

    def open(self, sealed: Sealed, place: Place) -> bytes:
        """The value; `Conflict` when it was sealed with a key that is gone, or for another place."""
        from cryptography.exceptions import InvalidTag

        cipher = self.keys.get(sealed.key_id)
        nonce, data = sealed.data[:_NONCE_BYTES], sealed.data[_NONCE_BYTES:]
        try:
            if cipher is not None:
                return bytes(cipher.decrypt(nonce, data, place.encoded()))
        except (InvalidTag, ValueError):
            log.warning("secret_does_not_open", project_id=place.project_id, name=place.name)
        raise Conflict(
            f"the backend cannot open the secret {place.name} any more: set it again, chisel secret set"
            f" {place.name}"
        )


def vault_of(path: Path) -> Vault:
    """The vault whose keys lie in `path`, which is made (mode 0600) if nothing is there."""
    # Loading it takes longer than most starts of this service, and few of them need it.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if not path.exists():
        key = base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()
        write_unless_there(path, f"{new_id(_KEY_ID_CHARS)} {key}")
    with path.open() as file:
        lines = [line.split() for line in file.read(_MAX_FILE_BYTES).splitlines() if line.strip()]
        mode = os.fstat(file.fileno()).st_mode
    if mode & 0o077:
        raise BadKeyFile(f"{path} can be read by others (mode {mode & 0o777:o}): chmod 600 it")
    keys = {line[0]: AESGCM(_key(path, line)) for line in lines}
    if not keys:
        raise BadKeyFile(f"{path} holds no key: delete it to have one made")
    return Vault(keys)


def _key(path: Path, line: list[str]) -> bytes:
    try:
        key = base64.b64decode(line[1], validate=True)
    except (IndexError, binascii.Error):
        key = b""
    if len(key) != _KEY_BYTES or not any(key):
        raise BadKeyFile(f"{path}: a line is not `<id> <{_KEY_BYTES} random bytes in base64>`")
    return key
