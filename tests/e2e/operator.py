"""Whoever operates a cluster: an account that may, opened and logged in to as a person does it."""

import asyncio
from typing import Any

import aiohttp

from tests.accounts.world import ADA, Browser
from tests.support.cluster import Cluster
from tests.support.commands import Command, Finished


class Operator:
    """Ada, the first admin. She runs the command with a key of her own."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        cluster.until(lambda: (cluster.folder / "admin-token").exists())
        self.name = ADA
        self.key = asyncio.run(_log_in(cluster.url, (cluster.folder / "admin-token").read_text().strip()))

    def spawn(self, *words: str) -> Command:
        """Start `chisel admin agents WORDS`."""
        return self._cluster.spawn(["admin", "agents", *words], env={"CHISEL_API_KEY": self.key})

    def run(self, *words: str) -> Finished:
        """`chisel admin agents WORDS`, which is to succeed."""
        done = self.spawn(*words).finish()
        assert done.returncode == 0, done.stderr
        return done

    def agent(self, name: str) -> Any:
        """An agent as the API shows it."""
        (found,) = [one for one in self._cluster.get("/api/v1/agents")["agents"] if one["name"] == name]
        return found

    def wait_for(self, name: str, state: str) -> None:
        """Return when the agent stands so."""
        self._cluster.until(lambda: self.agent(name)["state"] == state)


async def _log_in(url: str, token: str) -> str:
    jar = aiohttp.CookieJar(unsafe=True)  # it takes cookies from an address without a name
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        browser = Browser(http, url)
        shown = await browser.open_account(token)
        assert shown.status == 200, shown.words
        async with http.post(f"{url}/api/v1/login", json={"machine": "laptop"}) as answer:
            begun = await answer.json()
        await browser.answer(begun["user_code"])
        asked = {"device_code": begun["device_code"]}
        async with http.post(f"{url}/api/v1/login/token", json=asked) as answer:
            return str((await answer.json())["api_key"])
