"""What each page shows. Every value that is not ours is escaped here, by `_e`."""

import time
from html import escape

from chisel_gateway.web.forms import FIELD
from chisel_shared.contract.messages import InviteView, KeyView, PendingLogin, SignedIn

_e = escape


def sign_in(form: str, *, code: str, then: str = "", name: str = "", problem: str = "") -> str:
    """`then`: where whoever has signed in goes on."""
    why = "to allow a login of the command line" if code else "to your account"
    return f"""
<h1>Sign in</h1><p class="soft">Sign in {why}.</p>{alert(problem)}
<form method="post" action="login">{_hidden(form, code=code, next=then)}
<label>Name<input name="name" value="{_e(name)}" autocomplete="username" autocapitalize="none"
 spellcheck="false" required maxlength="64"{_focus(not name)}></label>
<label>Password<input name="password" type="password" autocomplete="current-password" required
 maxlength="200"{_focus(bool(name))}></label>
<button>Sign in</button></form>"""


def ask_code(form: str, who: SignedIn, keys: tuple[KeyView, ...], *, problem: str = "") -> str:
    """The page of somebody who is signed in: a code to type, and the keys that exist."""
    listed = "".join(_key(form, key) for key in keys)
    return f"""
<h1>Allow a login</h1><p class="soft">Type the code that <code>chisel login</code> shows.</p>
{alert(problem)}<form method="get" action="login">
<label>Code<input class="code" name="code" placeholder="ABCD-EFGH" autocomplete="off"
 autocapitalize="characters" spellcheck="false" required maxlength="12" autofocus></label>
<button>Go on</button></form>
<h2>Your keys</h2>{f"<ul>{listed}</ul>" if listed else '<p class="soft">None yet.</p>'}
{_footer(form, who)}"""


def confirm(form: str, who: SignedIn, asks: PendingLogin) -> str:
    """Who asks for a key, for a person who must recognise it as their own."""
    facts = {
        "Machine": asks.machine,
        "Address": asks.address,
        "Client": asks.client,
        "Started": f"{_ago(asks.seconds_ago)} ago",
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{_e(fact)}</dd></div>" for name, fact in facts.items() if fact)
    return f"""
<h1>Did you start this login?</h1><p class="soft">A command line asks for a key of yours. Allow it only
 if you ran <code>chisel login</code> just now and it shows this code.</p>
<p class="shown">{_e(asks.user_code)}</p><dl>{rows}</dl>
<form method="post" action="approve" class="pair">{_hidden(form, code=asks.user_code)}
<button name="answer" value="allow">Allow</button>
<button name="answer" value="refuse" class="second">Refuse</button></form>
{_footer(form, who)}"""


def decided(asks: PendingLogin, *, allowed: bool) -> str:
    if allowed:
        return f"""<h1>Done</h1><p><strong>{_e(asks.machine)}</strong> is logged in. You may close this page
 and go back to the terminal.</p>"""
    return f"""<h1>Refused</h1><p><strong>{_e(asks.machine)}</strong> gets no key. If you did not start this
 login, somebody may have sent you its address: nothing was given away.</p>"""


def welcome(form: str, token: str, invite: InviteView, *, name: str = "", problem: str = "") -> str:
    role = "as an admin " if invite.is_admin else ""
    fixed = " readonly" if invite.name else ""
    return f"""
<h1>Welcome to Chisel</h1><p class="soft">Open your account {role}with a password of your own.</p>
{alert(problem)}<form method="post" action="welcome">{_hidden(form, token=token)}
<label>Name<input name="name" value="{_e(invite.name or name)}" autocomplete="username"
 autocapitalize="none" spellcheck="false" required maxlength="32"{fixed}{_focus(not invite.name)}></label>
<label>Password <small>At least 10 characters. A few unrelated words are easy to keep.</small>
<input name="password" type="password" autocomplete="new-password" required minlength="10"
 maxlength="200"{_focus(bool(invite.name))}></label>
<label>The same again<input name="again" type="password" autocomplete="new-password" required
 maxlength="200"></label>
<button>Open the account</button></form>"""


def problem_page(text: str) -> str:
    return f"""<h1>That did not work</h1>{alert(text)}
<p class="soft"><a href="login">To the sign-in page</a></p>"""


def alert(text: str) -> str:
    """What went wrong, as a paragraph; empty where nothing did."""
    return f'<p class="bad" role="alert">{_e(text[:1].upper() + text[1:])}.</p>' if text else ""


def _hidden(form: str, **fields: str) -> str:
    return "".join(
        f'<input type="hidden" name="{name}" value="{_e(value)}">'
        for name, value in {FIELD: form, **fields}.items()
        if value
    )


def _focus(wanted: bool) -> str:
    return " autofocus" if wanted else ""


def _key(form: str, key: KeyView) -> str:
    until = f", until {_day(key.expires_at)}" if key.expires_at is not None else ""
    return f"""<li><span>{_e(key.name)}<small>since {_day(key.created_at)}{until}</small></span>
<form method="post" action="forget">{_hidden(form, key=key.id)}
<button class="link" aria-label="Revoke the key of {_e(key.name)}">Revoke</button></form></li>"""


def _footer(form: str, who: SignedIn) -> str:
    role = " (admin)" if who.is_admin else ""
    return f"""<footer><span>Signed in as <strong>{_e(who.user)}</strong>{role}</span>
<form method="post" action="sign-out">{_hidden(form)}<button class="link">Sign out</button></form></footer>"""


def _ago(seconds: float) -> str:
    return f"{round(seconds)} s" if seconds < 100 else f"{round(seconds / 60)} minutes"


def _day(moment: float) -> str:
    return time.strftime("%d %b %Y", time.gmtime(moment))
