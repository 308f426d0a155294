"""The pages for people: sign in, allow a login of the command line, accept an invitation, see a trace.

Plain HTML and one style sheet, nothing fetched from elsewhere; no JavaScript but on the timeline of a trace,
which is Perfetto's. Open `door.py` for the addresses, `pages.py` for what they show, `forms.py` for what
keeps other sites' forms out; `traces.py` and `trace_view.py` for the page of a trace.
"""
