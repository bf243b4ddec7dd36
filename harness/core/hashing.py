"""Canonical JSON, its hash, and the digest that a file carries of itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

_ROWS = "rows"


def canonical_json(value: Any, *, allow_nan: bool = False) -> str:
    """One text per value: sorted keys, no spaces, no NaN unless allowed. 2.0 and 2 differ."""
    # Changing any of these arguments would rename every run.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=allow_nan, default=_plain)


def content_hash(value: Any) -> str:
    return _sha256(canonical_json(value))


def with_digest(body: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """The body with a first key `digest`: the hash of all others. The items of a list go under the key `rows`."""
    body = body if isinstance(body, Mapping) else {_ROWS: body}
    rest = {key: value for key, value in body.items() if key != "digest"}
    # A checkpoint may hold the NaN of a run that diverged.
    return {"digest": _sha256(canonical_json(rest, allow_nan=True)), **rest}


def has_digest(body: Mapping[str, Any]) -> bool:
    """Whether the body has a digest, as files of older versions do not. Raises ValueError if it does not fit."""
    if "digest" not in body:
        return False
    if with_digest(body)["digest"] != body["digest"]:
        raise ValueError("its content does not fit its digest: it was changed after it was written")
    return True


def without_digest(value: Any) -> Any:
    """Invert `with_digest`; a file of an older version, without a digest, is returned as it is.

    Raises ValueError if the digest does not fit.
    """
    if not isinstance(value, dict) or not has_digest(value):
        return value
    rest = {key: item for key, item in value.items() if key != "digest"}
    return rest[_ROWS] if rest.keys() == {_ROWS} else rest


def finite_or_none(value: float) -> float | None:
    """The value, or None if it is not finite, since JSON has no NaN."""
    return value if math.isfinite(value) else None


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"cannot hash a {type(value).__name__}")
