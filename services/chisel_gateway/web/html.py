"""How every page looks, and the headers that keep it what it is."""

import base64
import hashlib
from html import escape

from aiohttp import web

STYLE = """
:root { color-scheme: light dark; --ink: #1c1f26; --soft: #5c6370; --line: #d9dce3; --page: #f3f4f7;
  --card: #fff; --accent: #2c5cc5; --accent-ink: #fff; --bad: #a32020; --bad-page: #fdecec; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --soft: #a2a9b8; --line: #3a404d;
  --page: #14161b; --card: #1e2128; --accent: #7aa2ff; --accent-ink: #10131a; --bad: #ffb3b3;
  --bad-page: #3c2024; } }
* { box-sizing: border-box; }
html { font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%; }
body { margin: 0; min-height: 100vh; padding: 1rem; background: var(--page); color: var(--ink);
  display: flex; flex-direction: column; align-items: center; justify-content: center; }
main { width: 100%; max-width: 25rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 1.75rem; box-shadow: 0 1px 2px #0001, 0 8px 24px #0000000d; }
.brand { width: 100%; max-width: 25rem; margin: 0 0 .9rem; padding: 0 .25rem; display: flex;
  align-items: center; gap: .55rem; font-weight: 650; letter-spacing: .01em; }
.brand svg { width: 1.35rem; height: 1.35rem; fill: var(--accent); }
h1 { margin: 0 0 .35rem; font-size: 1.3rem; line-height: 1.3; letter-spacing: -.01em; }
h2 { margin: 1.6rem 0 .2rem; font-size: 1rem; }
p { margin: 0 0 1rem; } .soft { color: var(--soft); font-size: .925rem; }
main > :last-child { margin-bottom: 0; }
form { margin: 0; } a { color: var(--accent); }
label { display: block; margin: 0 0 .9rem; font-weight: 600; font-size: .925rem; }
label small { display: block; font-weight: 400; color: var(--soft); }
input { display: block; width: 100%; margin-top: .3rem; padding: .6rem .7rem; font: inherit;
  font-weight: 400; color: inherit; background: var(--page);
  border: 1px solid var(--line); border-radius: 8px; }
input.code { font: 600 1.35rem/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  letter-spacing: .12em; text-align: center; text-transform: uppercase; }
input:focus-visible, button:focus-visible, a:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 1px; }
button { font: inherit; font-weight: 600; padding: .62rem 1rem; border-radius: 8px; cursor: pointer;
  border: 1px solid var(--accent); background: var(--accent); color: var(--accent-ink); width: 100%; }
button.second { background: transparent; color: var(--ink); border-color: var(--line); }
button.link { width: auto; padding: 0; border: 0; background: none; color: var(--accent);
  font-weight: 400; text-decoration: underline; }
.pair { display: flex; gap: .75rem; flex-direction: row-reverse; }
.bad { margin: 0 0 1rem; padding: .6rem .8rem; border-radius: 8px; color: var(--bad);
  background: var(--bad-page); font-size: .925rem; }
.shown { margin: 0 0 1rem; padding: .7rem; border-radius: 8px; background: var(--page); text-align: center;
  font: 650 1.5rem/1.3 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; letter-spacing: .1em; }
dl { margin: 0 0 1.1rem; } dl div { display: flex; gap: 1rem; padding: .45rem 0;
  border-bottom: 1px solid var(--line); } dl div:last-child { border-bottom: 0; }
dt { flex: 0 0 5.5rem; color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; } li { display: flex; gap: 1rem; align-items: baseline;
  justify-content: space-between; padding: .55rem 0; border-bottom: 1px solid var(--line); }
li:last-child { border-bottom: 0; } li span { min-width: 0; overflow-wrap: anywhere; }
li small { display: block; color: var(--soft); }
footer { margin-top: 1rem; padding-top: 1rem; border-top: 1px solid var(--line); display: flex;
  flex-wrap: wrap; justify-content: space-between; gap: .25rem 1rem; font-size: .925rem;
  color: var(--soft); overflow-wrap: anywhere; }
code { font: .92em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
"""

_MARK = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M15.6 2.4a2 2 0 0 1 2.8 0l3.2 3.2a2 2 0 0 1 0'
    ' 2.8l-4.1 4.1-6-6 4.1-4.1zM10.1 7.9l6 6L5.3 21.6c-.9.6-2.2.5-3-.3-.8-.8-.9-2.1-.2-3L10.1 7.9z"/></svg>'
)
_WIDE = """
.wide { justify-content: flex-start; } .wide main, .wide .brand { max-width: 66rem; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self';"
        " frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: with that, browsers say that our own forms come from nowhere.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def wide_page(title: str, content: str, *, style: str = "", status: int = 200) -> web.Response:
    """A page for much to read, that may frame others of ours. `style` is more of the style sheet."""
    sheet = STYLE + _WIDE + style
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = HEADERS["Content-Security-Policy"].replace(_STYLE_HASH, digest) + "; frame-src 'self'"
    text = _whole(title, content, sheet, kind=' class="wide"')
    headers = {**HEADERS, "Content-Security-Policy": policy}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def page(title: str, content: str, *, status: int = 200) -> web.Response:
    """A whole page. `title` is text, `content` markup."""
    text = _whole(title, content, STYLE)
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)


def _whole(title: str, content: str, style: str, *, kind: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="robots" content="noindex">'
        f"<title>{escape(title)} · Chisel</title><style>{style}</style></head><body{kind}>"
        f'<div class="brand">{_MARK}Chisel</div><main>{content}</main></body></html>\n'
    )
