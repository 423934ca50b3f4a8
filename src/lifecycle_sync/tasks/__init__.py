"""Celery tasks: a door like the command and the web, that parses, calls `service` and answers."""
