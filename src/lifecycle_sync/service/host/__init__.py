"""The clean-up of an application that has a table of files, and a place where they lie, of its own.

`service` knows only the protocols in `protocols`. Adapters for SQLAlchemy, Django and a local
folder stand beside it, and so do the ways of starting it: in Flask, with an ASGI application, from
cron, in a function in a cloud.
"""
