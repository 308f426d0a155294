"""The pages for people: sign in, allow a login of the command line, accept an invitation.

Plain HTML and one style sheet, nothing fetched from elsewhere, no JavaScript. Open `door.py` for the
addresses, `pages.py` for what they show, `forms.py` for what keeps other sites' forms out.
"""
