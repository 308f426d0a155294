"""The client that a command uses: the backend it finds, and the key for it."""

from typing import TYPE_CHECKING

from chisel import auth, settings
from chisel.cli.render import Screen
from chisel.client import Client

if TYPE_CHECKING:
    from chisel.api import Api


def connect(screen: Screen, *, announced: bool = False) -> Client:
    """A client of the backend that the user means; the embedded one is started where it has to be.

    That is always said; `announced`: also that it runs already.
    """
    backend = settings.backend(screen.say, announced=announced)
    key = settings.api_key() or backend.key or auth.authenticate(backend.url)
    return Client(url=backend.url, api_key=key)


def api(screen: Screen) -> "Api":
    """The HTTP API of the backend that the user means, for what is no verb of the client."""
    from chisel.api import Api

    backend = settings.backend(screen.say)
    return Api(url=backend.url, key=auth.authenticate(backend.url))
