"""Canonical JSON, its hash, and the digest that a file carries of itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no spaces, no NaN. 2.0 and 2 differ."""
    # Changing any of these arguments would rename every run.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)


def content_hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def with_digest(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with a first key `digest`: the hash of all others."""
    rest = {key: value for key, value in body.items() if key != "digest"}
    return {"digest": content_hash(rest), **rest}


def has_digest(body: Mapping[str, Any]) -> bool:
    """Whether the body has a digest, as files of older versions do not. Raises ValueError if it does not fit."""
    if "digest" not in body:
        return False
    if with_digest(body)["digest"] != body["digest"]:
        raise ValueError("its content does not fit its digest: it was changed after it was written")
    return True


def finite_or_none(value: float) -> float | None:
    """The value, or None if it is not finite, since JSON has no NaN."""
    return value if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"cannot hash a {type(value).__name__}")
