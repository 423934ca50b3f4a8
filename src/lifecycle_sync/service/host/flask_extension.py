"""The clean-up in a Flask application: started with it, and two routes for its administrators.

cleanup = FlaskCleanup(app, storage, files, admin_required=admin_required)
cleanup.service.start()
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Flask, flash, jsonify, redirect, render_template, request, url_for

from lifecycle_sync.errors import BusyError, UsageError
from lifecycle_sync.service.host.protocols import FileRepository, StorageBackend
from lifecycle_sync.service.host.service import CleanupService, read_environment

_log = logging.getLogger("lifecycle_sync.cleanup")
_NAMES = ("CLEANUP_ENABLED", "CLEANUP_INTERVAL_MINUTES", "CLEANUP_OLD_FILES_DAYS")


class FlaskCleanup:
    """`POST /admin/cleanup` runs a cycle, `GET /admin/stats` shows the statistics.

    Both stand behind `admin_required`, the application's own decorator; without one this raises
    `UsageError`. They answer as the application does where it can: with a message and a redirect to
    its endpoint `dashboard`, and with its template `admin/stats.html` (which gets `cleanup_stats`);
    else, and for whoever asks for JSON, in JSON. The settings are those of the application's
    configuration: `CLEANUP_ENABLED`, `CLEANUP_INTERVAL_MINUTES`, `CLEANUP_OLD_FILES_DAYS`.
    """

    def __init__(
        self,
        app: Flask,
        storage_backend: StorageBackend,
        file_repository: FileRepository,
        *,
        admin_required: Callable[[Callable[..., Any]], Callable[..., Any]],
        dashboard: str = "admin_dashboard",
        prefix: str = "/admin",
        **how: Any,
    ) -> None:
        if not callable(admin_required):
            raise UsageError(
                "there is no check that somebody is an administrator",
                operation="add the clean-up to Flask",
                remedy="give admin_required=..., the decorator of your other admin routes",
            )
        settings = read_environment({n: str(app.config[n]) for n in _NAMES if n in app.config})
        self.service = CleanupService(app, storage_backend, file_repository, **{**settings, **how})
        self._dashboard = dashboard
        routes = Blueprint("lifecycle_cleanup", __name__, url_prefix=prefix)
        routes.add_url_rule("/cleanup", "cleanup", admin_required(self._cleanup), methods=["POST"])
        routes.add_url_rule("/stats", "stats", admin_required(self._stats))
        app.register_blueprint(routes)
        app.extensions["lifecycle_cleanup"] = self
        atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        if self.service.running:
            self.service.stop()

    def _cleanup(self) -> Any:
        try:
            failures = self.service.run_cleanup_cycle()
            message, code = "Cleanup completed successfully", 200
            if failures:
                message = f"Cleanup completed; {failures} files failed, see the log"
        except BusyError as error:
            message, code = f"Cleanup is running already: {error.cause}", 409
        except Exception:  # noqa: BLE001 - the page says that it failed, the log why
            _log.exception("the clean-up that was asked for failed")
            message, code = "Cleanup failed", 500
        endpoint = self._known_dashboard()
        if _wants_json() or endpoint is None:
            return jsonify(message=message, cleanup_stats=_plain(self.service.get_stats())), code
        flash(message)
        return redirect(url_for(endpoint))

    def _stats(self) -> Any:
        stats = self.service.get_stats()
        if not _wants_json():
            from jinja2 import TemplateNotFound

            try:
                return render_template("admin/stats.html", cleanup_stats=stats)
            except TemplateNotFound:
                pass  # the application has none
        return jsonify(_plain(stats))

    def _known_dashboard(self) -> str | None:
        from flask import current_app

        return self._dashboard if self._dashboard in current_app.view_functions else None


def _wants_json() -> bool:
    best = request.accept_mimetypes.best_match(["text/html", "application/json"])
    return best == "application/json"


def _plain(stats: dict[str, Any]) -> dict[str, Any]:
    last = stats["last_run"]
    return {**stats, "last_run": None if last is None else last.isoformat()}
