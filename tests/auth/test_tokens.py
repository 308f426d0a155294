"""Tokens: made, read, told from garbage, and never shown."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chisel_auth.tokens import Kind, Token, checksum, digest, make, matches, parse

TOKEN = make(Kind.USER).text


@given(st.sampled_from(Kind))
def test_a_made_token_is_read_back(kind: Kind) -> None:
    token = make(kind)
    assert parse(token.text) == token
    assert token.text.startswith(f"chsl_{kind}_{token.id}")
    assert len(token.text) == len(f"chsl_{kind}_") + 12 + 32 + 6
    assert matches(token, digest(token))


@given(st.text())
def test_garbage_is_no_token(text: str) -> None:
    assert parse(text) is None


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from(string.ascii_letters + string.digits + "_ \n\0é"))
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    wrong = TOKEN[:position] + character + TOKEN[position + 1 :]
    assert (parse(wrong) is None) is (wrong != TOKEN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "chsl_usr_",
        TOKEN[:-1],
        TOKEN + "0",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN.upper(),
        TOKEN.replace("usr", "agt"),
        "x" + TOKEN,
        TOKEN * 2,
        "chsl_usr_" + "a" * 100_000,
    ],
)
def test_what_only_looks_like_a_token(text: str) -> None:
    assert parse(text) is None


def test_a_longer_secret_is_a_token_too() -> None:
    body = "chsl_join_" + "0" * 12 + "Z" * 64
    assert parse(body + checksum(body)) is not None


def test_the_checksum_is_fixed_for_ever() -> None:
    """Other programs check tokens by it."""
    assert checksum("chsl_usr_000000000000" + "0" * 32) == "208DeO"


def test_no_two_tokens_are_alike() -> None:
    made = [make(Kind.AGENT) for _ in range(200)]
    assert len({token.text for token in made}) == len({token.id for token in made}) == 200


def test_only_the_token_itself_matches_its_digest() -> None:
    one, other = make(Kind.USER), make(Kind.USER)
    assert not matches(one, digest(other))
    assert not matches(one, b"")
    assert one.text.encode() not in digest(one)


def test_a_token_is_not_in_its_repr() -> None:
    token = make(Kind.USER)
    assert token.text not in repr(token)
    assert token.text[-38:] not in f"{token}"
    assert isinstance(token, Token)
