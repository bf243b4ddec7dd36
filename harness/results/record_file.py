"""A record as text and back: plain JSON types, and its long lists of rows in files of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError
from harness.results import curve_file
from harness.results.costs import CostModel
from harness.system.files import write_atomic
from models.config import LATER

FILES = {"curve": "curve.csv", "traces": "trace.csv"}
"""Fields of a record that are lists of rows -> the file each is kept in."""


def write_apart(body: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The body with its rows in files beside it, each named with its checksum; a file without rows is removed."""
    named = dict(body)
    for field, name in FILES.items():
        if body[field]:
            named[field] = write_rows(folder / name, body[field])
        else:
            (folder / name).unlink(missing_ok=True)
    return named


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Rows as CSV in a file, and what a record says in their place: the file's name and checksum. Raises OSError."""
    text = curve_file.to_csv(rows)
    write_atomic(path, text)
    return {"file": path.name, "sha256": _sha256(text)}


def read_apart(value: Any, folder: Path, name: str) -> list[dict[str, Any]]:
    """A field's rows, from the record itself or the file it names. Raises ValueError where that is another file."""
    if isinstance(value, list):
        return value
    if value["file"] != name:
        raise ValueError(f"rows of {name} are said to be in {value['file']!r}")
    text = (folder / name).read_bytes().decode("utf-8")
    if _sha256(text) != value["sha256"]:
        raise ValueError(f"{name} is not the {name.removesuffix('.csv')} that was written with it")
    return curve_file.from_csv(text)


def plain(value: Any, where: Path, name: str = "record") -> Any:
    """value as JSON types, non-finite numbers as None. Raises StoreError naming the part that does not fit."""
    if value is None or isinstance(value, str | bool):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name), where, f"{name}.{field.name}")
            for field in dataclasses.fields(value)
            if not (LATER.keys() <= field.metadata.keys() and getattr(value, field.name) == field.default)
        }
    if isinstance(value, CostModel):
        return plain(value.to_json(), where, name)
    if isinstance(value, Mapping):
        return {str(key): plain(item, where, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [plain(item, where, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    raise StoreError(f"{where}: {name} is a {type(value).__name__}, which a record cannot hold")


def json_text(body: Mapping[str, Any]) -> str:
    """Indented JSON with each list of plain numbers on one line."""
    text = json.dumps(body, indent=1, allow_nan=False)
    # Inside a JSON string a newline is always escaped, so only layout is touched.
    return re.sub(r'\[\n([^\[\]{}"]*)\n\s*\]', lambda found: "[" + " ".join(found[1].split()) + "]", text) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
