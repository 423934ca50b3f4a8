"""A plan as a file: canonical JSON with a hash over it, which is checked before anything else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lifecycle_sync.clock import to_iso
from lifecycle_sync.errors import PlanError
from lifecycle_sync.model.file import Kind, LifecycleState
from lifecycle_sync.model.ids import from_text, to_text
from lifecycle_sync.model.observation import Fingerprint
from lifecycle_sync.model.plan import PLAN_FORMAT, Action, Beyond, Plan, RootPlan, Verb

SCHEMA_VERSION = 1


def plan_fields(plan: Plan) -> dict[str, Any]:
    """The document of a plan, its hash included."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "plan_format": PLAN_FORMAT,
        "registry_id": to_text(plan.registry_id),
        "seq": plan.seq,
        "at": to_iso(plan.at_ns),
        "at_ns": plan.at_ns,
        "made_ns": plan.made_ns,
        "policies_hash": plan.policies_hash,
        "roots": [_root_fields(root) for root in plan.roots],
        "actions": [_action_fields(action) for action in plan.actions],
        "more": plan.more,
        "kept": dict(plan.kept),
        "versions": [_version_fields(version) for version in plan.versions],
        "more_versions": plan.more_versions,
    }
    return document | {"hash": _hash(document)}


def write_plan(plan: Plan) -> str:
    """The text of a plan file."""
    return json.dumps(plan_fields(plan), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def read_plan(text: str, name: str = "") -> Plan:
    """Raises `PlanError` for what is no plan, was written by a newer program, or was edited."""
    try:
        document = json.loads(text)
        if not isinstance(document, dict) or "plan_format" not in document:
            raise ValueError("it has no plan_format")
        if document["plan_format"] != PLAN_FORMAT:
            raise PlanError(
                f"was written in format {document['plan_format']}, and this program reads"
                f" {PLAN_FORMAT}",
                operation="read plan",
                subject=name,
                remedy="make the plan anew with this program",
            )
        told = document.pop("hash", "")
        if told != _hash(document):
            raise PlanError(
                "is not as it was written: somebody changed it",
                operation="read plan",
                subject=name,
                remedy="make the plan anew; what is not to be done is kept out by a hold",
            )
        return _plan_of(document)
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"is no plan ({error})",
            operation="read plan",
            subject=name,
            remedy="`lifecycle plan --out FILE` writes one",
        ) from error


def load_plan(path: str) -> Plan:
    """The plan in a file. Raises `PlanError`."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            (getattr(error, "strerror", None) or "is no text").lower(),
            operation="read plan",
            subject=path,
            remedy="`lifecycle plan --out FILE` writes one",
        ) from error
    return read_plan(text, path)


def _plan_of(document: Mapping[str, Any]) -> Plan:
    return Plan(
        registry_id=from_text(document["registry_id"]),
        seq=document["seq"],
        at_ns=document["at_ns"],
        made_ns=document["made_ns"],
        policies_hash=document["policies_hash"],
        roots=tuple(
            RootPlan(
                from_text(root["repository_id"]),
                _path(root),
                root["enforce"],
                root["files"],
                root["deleted"],
                root["deletions"],
                root["guard"],
                root["waits"],
                root["space"],
            )
            for root in document["roots"]
        ),
        actions=tuple(_action_of(action) for action in document["actions"]),
        more=document["more"],
        kept=tuple(document["kept"].items()),
        versions=tuple(_version_of(version) for version in document["versions"]),
        more_versions=document["more_versions"],
    )


def _action_of(action: Mapping[str, Any]) -> Action:
    checksum = action["checksum"]
    return Action(
        verb=Verb(action["verb"]),
        file_id=from_text(action["file_id"]),
        repository_id=from_text(action["repository_id"]),
        path=_path(action),
        policy_name=action["policy"],
        reason=action["reason"],
        due_ns=action["due_ns"],
        size=action["size"],
        fingerprint=Fingerprint(
            Kind(action["kind"]),
            action["size"],
            action["mtime_ns"],
            action["ctime_ns"],
            action["inode"],
        ),
        checksum=None if checksum is None else bytes.fromhex(checksum),
        state=LifecycleState(action["state"]),
        guard=action["guard"],
        waits=action["waits"],
    )


def _version_of(version: Mapping[str, Any]) -> Beyond:
    return Beyond(
        file_id=from_text(version["file_id"]),
        repository_id=from_text(version["repository_id"]),
        path=_path(version),
        version_id=from_text(version["version_id"]),
        number=version["number"],
        kept_ns=version["kept_ns"],
        size=version["size"],
        policy_name=version["policy"],
        reason=version["reason"],
        guard=version["guard"],
        waits=version["waits"],
    )


def _version_fields(version: Beyond) -> dict[str, Any]:
    return {
        "file_id": to_text(version.file_id),
        "repository_id": to_text(version.repository_id),
        **_path_fields(version.path),
        "version_id": to_text(version.version_id),
        "number": version.number,
        "kept_at": to_iso(version.kept_ns),
        "kept_ns": version.kept_ns,
        "size": version.size,
        "policy": version.policy_name,
        "reason": version.reason,
        "guard": version.guard,
        "waits": version.waits,
    }


def _root_fields(root: RootPlan) -> dict[str, Any]:
    return {
        "repository_id": to_text(root.repository_id),
        **_path_fields(root.path),
        "enforce": root.enforce,
        "files": root.files,
        "deleted": root.deleted,
        "deletions": root.deletions,
        "guard": root.guard,
        "waits": root.waits,
        "space": root.space,
    }


def _action_fields(action: Action) -> dict[str, Any]:
    look = action.fingerprint
    return {
        "verb": action.verb.value,
        "file_id": to_text(action.file_id),
        "repository_id": to_text(action.repository_id),
        **_path_fields(action.path),
        "policy": action.policy_name,
        "reason": action.reason,
        "due": to_iso(action.due_ns),
        "due_ns": action.due_ns,
        "kind": int(look.kind),
        "size": look.size,
        "mtime_ns": look.mtime_ns,
        "ctime_ns": look.ctime_ns,
        "inode": look.inode,
        "checksum": None if action.checksum is None else action.checksum.hex(),
        "state": action.state.value,
        "guard": action.guard,
        "waits": action.waits,
    }


def _path_fields(path: bytes) -> dict[str, Any]:
    text = path.decode("utf-8", "backslashreplace")
    if text.encode() == path:
        return {"path": text}
    return {"path": text, "path_bytes": base64.b64encode(path).decode()}


def _path(fields: Mapping[str, Any]) -> bytes:
    odd = fields.get("path_bytes")
    return fields["path"].encode() if odd is None else base64.b64decode(odd, validate=True)


def _hash(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
