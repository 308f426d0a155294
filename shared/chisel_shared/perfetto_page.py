"""Handing a trace to the Perfetto UI in a browser: the script, and a page around it.

The script works on the element `perfetto`: an iframe that shows the UI, or a button that opens it in a tab.
Its `data-ui` is the UI's address, `data-trace` that of the trace, which the script fetches and posts.
"""

import base64
import hashlib
from html import escape
from urllib.parse import urlsplit

SCRIPT = """
'use strict';
(() => {
  const element = document.getElementById('perfetto');
  const status = document.getElementById('perfetto-status');
  const {ui, trace, title, name, here} = element.dataset;
  const origin = new URL(ui, location.href).origin;
  const say = text => { if (status) status.textContent = text; };
  const fetched = fetch(trace, {credentials: 'same-origin'}).then(answer => {
    if (!answer.ok) throw new Error('HTTP ' + answer.status);
    return answer.arrayBuffer();
  });
  fetched.catch(error => say('The trace could not be fetched: ' + error.message));
  if (here) new EventSource(here);

  const hand = target => {
    let answered = false;
    const began = Date.now();
    const ping = setInterval(() => {
      target.postMessage('PING', origin);
      if (Date.now() - began > 20000) say('The Perfetto UI does not answer: is ' + origin + ' within reach?');
    }, 100);
    addEventListener('message', event => {
      if (event.source !== target || event.origin !== origin || event.data !== 'PONG' || answered) return;
      answered = true;
      clearInterval(ping);
      fetched.then(buffer => {
        const url = new URL(trace, location.href).href;
        const perfetto = {buffer, title, fileName: name, url, keepApiOpen: true};
        target.postMessage({perfetto}, origin, [buffer]);
        say('');
        document.documentElement.dataset.posted = 'yes';
      }, () => {});
    });
  };

  if (element.tagName === 'IFRAME') {
    element.src = ui;
    hand(element.contentWindow);
  } else {
    const open = () => { const tab = window.open(ui); if (tab) hand(tab); return tab; };
    element.addEventListener('click', open);
    if (open()) say('The trace is in the other tab.');
  }
})();
"""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f26; --soft: #5c6370; --page: #f3f4f7; --accent: #2c5cc5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --soft: #a2a9b8; --page: #14161b;
  --accent: #7aa2ff; } }
html, body { height: 100%; margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.4 system-ui, sans-serif; }
body { display: flex; flex-direction: column; }
header { display: flex; gap: 1rem; align-items: baseline; padding: .45rem .9rem; }
header strong { font-weight: 650; } header span { color: var(--soft); }
iframe { flex: 1; border: 0; width: 100%; }
main { margin: auto; text-align: center; }
button { font: inherit; padding: .6rem 1.2rem; border-radius: 8px; border: 0; cursor: pointer;
  background: var(--accent); color: #fff; }
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


SCRIPT_HASH = _hash(SCRIPT)


def element(*, ui: str, trace: str, name: str, title: str, here: str = "", tab: bool = False) -> str:
    """The markup that the script works on: the UI in a frame, or with `tab` a button for it."""
    data = {"ui": ui, "trace": trace, "name": name, "title": title, "here": here}
    told = " ".join(f'data-{key}="{escape(value)}"' for key, value in data.items() if value)
    if tab:
        return f'<button id="perfetto" {told}>Open in Perfetto</button>'
    return f'<iframe id="perfetto" title="Perfetto: {escape(name)}" {told}></iframe>'


def page(
    *, ui: str, trace: str, name: str, here: str = "", tab: bool = False, ancestors: str = "'none'"
) -> tuple[str, dict[str, str]]:
    """A page with nothing but the UI, and its headers: the trace comes from where the page does. With `here`
    it holds a connection open to there for as long as it is shown. `ancestors`: who may frame it."""
    shown = element(ui=ui, trace=trace, name=name, title=name, here=here, tab=tab)
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(name)} · Chisel</title><style>{_STYLE}</style></head><body>"
        f'<header><strong>{escape(name)}</strong><span id="perfetto-status">Loading</span></header>'
        + (f"<main>{shown}</main>" if tab else shown)
        + f"<script>{SCRIPT}</script></body></html>\n"
    )
    parts = urlsplit(ui)
    frames = f"{parts.scheme}://{parts.netloc}" if parts.netloc else "'self'"
    policy = (
        f"default-src 'none'; script-src {SCRIPT_HASH}; style-src {_hash(_STYLE)}; connect-src 'self';"
        f" frame-src {frames}; base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    )
    return text, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
