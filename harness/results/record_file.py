"""A record as JSON text, with its long lists of rows in CSV files that read back exactly.

Every cell is a JSON value, or text that cannot be mistaken for one. An empty cell is a missing key; `null` is None.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import numbers
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import StoreError
from harness.core.json_values import MAX_NUMBER, read_json
from harness.core.messages import reason
from harness.results.costs import CostModel
from harness.system.files import remove_tree, write_atomic
from harness.system.reading import read_text
from lm_models.config import LATER

# Fields of a record that are lists of rows -> the file that holds them.
FILES = {"curve": "curve.csv", "traces": "trace.csv"}


def write_apart(body: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write the rows of a record to CSV files.

    Args:
        body: a record as JSON values.
        folder: of the record.

    Returns:
        The body with `{file, sha256}` in place of the rows. The file of an empty list is removed.
    """
    named = dict(body)
    for field, name in FILES.items():
        path = folder / name
        # A folder of this name is not ours, and must not cost the record of a long training.
        if not body[field] or (path.exists() and not path.is_file()):
            remove_tree(path)
        if body[field]:
            named[field] = write_rows(path, body[field])
    return named


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Write rows as CSV; returns the `file` and `sha256` that a record holds in their place. Raises OSError."""
    text = to_csv(rows)
    write_atomic(path, text)
    return {"file": path.name, "sha256": _sha256(text)}


def read_apart(value: Any, folder: Path, name: str) -> list[dict[str, Any]]:
    """Read the rows of a field.

    Args:
        value: the rows themselves, or `{file, sha256}`.
        folder: of the record.
        name: the file expected there.

    Returns:
        The rows.

    Raises:
        ValueError: the record names another file.
        StoreError: the file is missing, cannot be read, or is not the one that was written with the record.
    """
    if isinstance(value, list):
        return value
    # Only `name` is ever opened, so a record cannot point to a file outside its folder.
    if value["file"] != name:
        raise ValueError(f"{value['file']!r} is named as the file of {name}")
    path, checksum = folder / name, value["sha256"]
    try:
        text = read_text(path)
        if _sha256(text) != checksum:
            raise ValueError(f"it is not the {path.stem} that was written with the record")
        return from_csv(text)
    except FileNotFoundError:
        raise StoreError(f"{path}: is missing") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise StoreError(f"{path}: is damaged ({reason(error)})") from error


def plain(value: Any, where: Path, name: str = "record") -> Any:
    """Convert a value to JSON types: dataclasses to objects, numpy numbers to numbers, non-finite numbers to None.

    Args:
        value: a record or any part of one.
        where: file that an error names.
        name: of the value, for the path in an error.

    Returns:
        JSON values. A dataclass field marked LATER is left out at its default.

    Raises:
        StoreError: a part is of a type that JSON does not have.
    """
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
    # numpy integers are no int, and json refuses them.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        # A perplexity beyond MAX_NUMBER is as good as infinite, and a reader refuses it.
        return float(value) if abs(float(value)) <= MAX_NUMBER else None
    raise StoreError(f"{where}: {name} is a {type(value).__name__}, which a record cannot hold")


def json_text(body: object) -> str:
    """Indented JSON with each list of plain values on one line."""
    text = json.dumps(body, indent=1, allow_nan=False)
    # A JSON string holds no raw newline, so the pattern matches layout only.
    return re.sub(r'\[\n([^\[\]{}"]*)\n\s*\]', lambda match: "[" + " ".join(match[1].split()) + "]", text) + "\n"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV text, one column per key in order of first appearance.

    Raises ValueError for NaN or infinity, TypeError for a value that JSON does not have.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    buffer = io.StringIO()
    # The csv module ends lines with \r\n by default, which git may convert and so break the record's checksum.
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_encode(column) for column in columns])
    writer.writerows([_encode(row[column]) if column in row else "" for column in columns] for row in rows)
    return buffer.getvalue()


def from_csv(text: str) -> list[dict[str, Any]]:
    """Rows from the text of `to_csv`. Raises ValueError if a line is not as wide as the header."""
    lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    if not lines:
        return []
    columns = [str(_decode(cell)) for cell in lines[0]]
    rows = []
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(columns):
            raise ValueError(f"line {number} has {len(cells)} cells under {len(columns)} columns")
        rows.append({column: _decode(cell) for column, cell in zip(columns, cells, strict=True) if cell != ""})
    return rows


def _encode(value: Any) -> str:
    # Other text becomes JSON: escapes keep line breaks and lone surrogates out of the file, and quotes keep a
    # spreadsheet from reading a formula.
    plain = isinstance(value, str) and value.isascii() and value.isprintable() and value[:1] not in ("", *"=+-@")
    if plain and _decode(value) == value:
        return str(value)
    return json.dumps(value, allow_nan=False)


def _decode(cell: str) -> Any:
    # Most texts are words, and an error for each takes as long as all numbers.
    if cell[:1].isalpha() and cell.strip() not in ("true", "false", "null"):
        return cell
    try:
        # NaN, or a number out of range, is text: `_encode` refuses such numbers.
        return read_json(cell)
    except ValueError:
        return cell
