"""`chisel admin`: the first account, and everybody else's."""

from chisel import settings
from chisel.cli import backend, wording
from chisel.cli.render import Screen
from chisel_shared.contract.errors import ChiselError, Conflict, NotFound


def init(url: str | None, token_file: str | None, json: bool) -> int:
    """Print the address where the first admin opens an account; the token in it works once."""
    screen = Screen()
    if token_file is None:
        local = settings.local_backend()
        if local is None:
            raise NotFound(
                "no backend runs on this machine: `chisel up` starts one; for another, name the file of"
                " its setting CHISEL_AUTH_ADMIN_TOKEN_FILE: chisel admin init URL --token-file FILE"
            )
        if url and not settings.same_backend(settings.checked_url(url), local.url):
            raise NotFound(f"{url} is not on this machine: --token-file FILE is needed")
        address, token_file = local.url, settings.local_admin_token_file()
    else:
        address = settings.checked_url(url) if url else settings.backend(screen.say).url
    try:
        with open(token_file, encoding="ascii") as file:
            token = file.read(4096).strip()
    except FileNotFoundError as error:
        raise Conflict(
            f"{token_file} is not there: there is an admin already, who can add others"
            " (`chisel admin users add`)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(f"{token_file} cannot be read ({error})") from error
    page = f"{address}/welcome?token={token}"
    if json:
        from json import dumps

        screen.result(dumps({"url": page}, indent=2))
    else:
        screen.say(f"open this page once and choose a name and a password; then: chisel login {address}")
        screen.result(page)
    return 0


def add(name: str, admin: bool, project: str | None, json: bool) -> int:
    from json import dumps, loads

    screen = Screen()
    wish = {"name": name, "project": project or "", "is_admin": admin}
    with backend.api(screen) as api:
        made = loads(api.post_bytes("/api/v1/users", dumps(wish).encode()))
    if json:
        screen.result(dumps(made, indent=2))
    else:
        days = round(made["expires_in"] / 86_400)
        screen.say(f"give {made['name']} this address; it opens the account once, within {days} days")
        screen.result(made["url"])
    return 0


def ls(json: bool) -> int:
    from json import dumps, loads

    screen = Screen()
    with backend.api(screen) as api:
        users = loads(api.get_bytes("/api/v1/users"))["users"]
    if json:
        screen.result(dumps(users, indent=2))
        return 0
    rows = [("NAME", "PROJECT", "ROLE", "STATE", "KEYS")]
    for user in users:
        role = "admin" if user["is_admin"] else "member"
        rows.append((user["name"], user["project"] or "-", role, user["state"], str(user["keys"])))
    screen.result(wording.table(rows))
    return 0


def rm(names: tuple[str, ...], json: bool) -> int:
    from urllib.parse import quote

    screen, status, gone = Screen(), 0, []
    with backend.api(screen) as api:
        for name in names:
            try:
                api.delete_bytes(f"/api/v1/users/{quote(name, safe='')}")
                screen.say(f"{name} is removed; jobs that run go on")
                gone.append(name)
            except ChiselError as error:
                screen.error(f"{name}: {error}")
                status = error.exit_code
    if json:
        screen.json(gone)
    return status
