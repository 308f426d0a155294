"""A person with a browser, and a command that wants a key, in front of a real auth and a real gateway."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

ADA, PASSWORD = "ada", "correct horse battery"


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Page:
    """What a browser got."""

    status: int
    text: str
    headers: Any
    path: str

    @property
    def words(self) -> str:
        """What a person reads."""
        body = re.sub(r"<style>.*?</style>", "", self.text, flags=re.DOTALL)
        return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())

    def hidden(self, action: str) -> dict[str, str]:
        """The hidden fields of the first form that goes to `action`."""
        (form, *_) = re.findall(rf'<form method="post" action="{action}".*?</form>', self.text, re.DOTALL)
        found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
        return {name: unescape(value) for name, value in found}


class Browser:
    """Keeps cookies, follows redirects, fills in forms."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url

    async def get(self, path: str) -> Page:
        async with self.http.get(f"{self.url}{path}") as answer:
            return Page(answer.status, await answer.text(), answer.headers, str(answer.url.relative()))

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> Page:
        sent = {"Origin": self.url, **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with self.http.post(f"{self.url}{path}", data=fields, headers=sent) as answer:
            return Page(answer.status, await answer.text(), answer.headers, str(answer.url.relative()))

    async def sign_in(self, name: str = ADA, password: str = PASSWORD, *, code: str = "") -> Page:
        shown = await self.get(f"/login?code={code}" if code else "/login")
        return await self.post("/login", {**shown.hidden("login"), "name": name, "password": password})

    async def open_account(self, token: str, name: str = ADA, password: str = PASSWORD) -> Page:
        shown = await self.get(f"/welcome?token={token}")
        typed = {"name": name, "password": password, "again": password}
        return await self.post("/welcome", {**shown.hidden("welcome"), **typed})

    async def answer(self, code: str, answer: str = "allow") -> Page:
        shown = await self.get(f"/login?code={code}")
        return await self.post("/approve", {**shown.hidden("approve"), "answer": answer})


@dataclass
class World:
    """The running services and the time they go by."""

    url: str
    database_url: str
    admin_token_file: Path
    key_file: Path
    clock: Clock = field(default_factory=Clock)

    @property
    def admin_token(self) -> str:
        return self.admin_token_file.read_text().strip()

    @property
    def key(self) -> str:
        """The key that the server began with."""
        return self.key_file.read_text().strip()

    async def call(
        self, method: str, path: str, body: object = None, *, key: str = "", **headers: str
    ) -> tuple[int, Any]:
        """One request of a command: status and JSON."""
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            aiohttp.ClientSession() as http,
            http.request(method, f"{self.url}{path}", json=body, headers={**sent, **headers}) as answer,
        ):
            return answer.status, await answer.json()

    async def begin(self, machine: str = "laptop") -> dict[str, Any]:
        status, begun = await self.call("POST", "/api/v1/login", {"machine": machine, "client": "chisel 1"})
        assert status == 200, begun
        return dict(begun)

    async def poll(self, begun: dict[str, Any]) -> dict[str, Any]:
        """Ask how it stands, at the pace that the server wants."""
        self.clock.advance(begun["interval"])
        status, answer = await self.call("POST", "/api/v1/login/token", {"device_code": begun["device_code"]})
        assert status == 200, answer
        return dict(answer)

    async def fetch(self, sentence: str, *values: object) -> list[Any]:
        """Rows of the auth service's database."""
        connection = await asyncpg.connect(self.database_url, server_settings={"search_path": "auth"})
        try:
            return list(await connection.fetch(sentence, *values))
        finally:
            await connection.close()
