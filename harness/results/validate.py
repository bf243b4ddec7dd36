"""What stands inside a record and a label: every part that tables and gates read, checked before they do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from harness.core.scores import EvaluationProtocol, Tally
from harness.core.specs import Label
from harness.results.record import RunRecord

Kind = tuple[Callable[[Any], bool], str]
"""A test of a JSON value, and how it reads after `must be`."""


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_values(value: Any) -> bool:
    return isinstance(value, dict) and all(item is None or _is_number(item) for item in value.values())


def _or_null(kind: Kind) -> Kind:
    test, words = kind
    return (lambda value: value is None or test(value)), f"{words} or null"


TEXT: Kind = (_is_text, "text")
FLAG: Kind = (lambda value: isinstance(value, bool), "true or false")
WHOLE: Kind = (_is_whole, "a whole number")
NUMBER: Kind = (_is_number, "a finite number")
TEXTS: Kind = (_is_texts, "a list of texts")
SOME_TEXTS: Kind = (lambda value: _is_texts(value) and len(value) > 0, "a list of at least one text")
OBJECT: Kind = (lambda value: isinstance(value, dict), "an object")
OBJECTS: Kind = (_is_objects, "a list of objects")
VALUES: Kind = (_is_values, "an object of numbers")
REASONS: Kind = (lambda value: isinstance(value, dict) and _is_texts(list(value.values())), "an object of texts")

RECORD: Mapping[str, Kind] = {
    "status": TEXT,
    "error": _or_null(TEXT),
    "started_at": TEXT,
    "seconds": NUMBER,
    **dict.fromkeys(("code", "machine", "data", "model"), OBJECT),
    "training": _or_null(OBJECT),
    **dict.fromkeys(("attempts", "scores", "curve", "timings", "traces"), OBJECTS),
    "costs": _or_null(OBJECT),
}
SPEC: Mapping[str, Kind] = {
    **dict.fromkeys(("dataset", "dataset_identity", "model", "evaluation", "speed"), OBJECT),
    "recipe": _or_null(OBJECT),
    "checkpoint": _or_null(TEXT),
    "checkpoint_sha256": _or_null(TEXT),
    "seed": WHOLE,
    **dict.fromkeys(("device", "dtype", "kernel"), TEXT),
    "checkpoint_every_s": NUMBER,
}
LABEL: Mapping[str, Kind] = {
    **{field.name: TEXT for field in fields(Label)},
    "metrics": SOME_TEXTS,
    "published": _or_null(TEXT),
}
SCORE: Mapping[str, Kind] = {
    "split": TEXT,
    "protocol": OBJECT,
    "tally": OBJECT,
    "metrics": VALUES,
    "std_errors": VALUES,
}
# Rows of timings that name an op are shown as timed kernels; those that are not ok say why in place of a time.
TIMING: Mapping[str, Kind] = {
    **dict.fromkeys(("op", "backend", "case", "direction", "dtype", "status"), TEXT),
    "error": _or_null(TEXT),
}
TIMED = dict.fromkeys(
    (
        *("ms", "ms_warm", "gb_per_s", "share_of_copy", "share_of_triad"),
        *("gflop_per_s", "share_of_gemm", "speedup_over_chain"),
    ),
    _or_null(NUMBER),
)
_OF_ANNOTATION = {"str": TEXT, "int": WHOLE, "bool": FLAG, "float": _or_null(NUMBER)}
PROTOCOL = {field.name: _OF_ANNOTATION[str(field.type)] for field in fields(EvaluationProtocol)}
TALLY = {field.name: _OF_ANNOTATION[str(field.type)] for field in fields(Tally)}

# Parts that need not be there; where they are, a table or gate reads them.
EVALUATION = {"protocols": _or_null(SOME_TEXTS), "splits": TEXTS, "adaptive": _or_null(OBJECT)}
OPTIONAL: Mapping[str, Mapping[str, Kind]] = {
    "code": {"version": TEXT, "source_sha256": TEXT},
    "machine": dict.fromkeys(("device_name", "fingerprint"), _or_null(TEXT)),
    "data": {"limits": _or_null(VALUES)},
    "model": {"num_parameters": _or_null(WHOLE)},
    "training": dict.fromkeys(("tokens", "tokens_per_s", "seconds"), _or_null(NUMBER)),
    "costs": {"summary": VALUES, "unknown_summary": REASONS},
}


def check_label(value: Any, where: str = "a label") -> None:
    """value is a label as JSON has it. Raises TypeError naming the part that does not fit."""
    if not isinstance(value, dict):
        raise TypeError(f"{where} must be an object")
    _need(value, where, LABEL)


def check_record(record: RunRecord) -> None:
    """Everything but the label, which is checked before it is one. Raises TypeError naming what does not fit."""
    _need({name: getattr(record, name) for name in RECORD}, "", RECORD)
    _need({name: getattr(record.spec, name) for name in SPEC}, "spec", SPEC)
    _need(record.spec.model, "spec.model", {"builder": TEXT})
    _may(record.spec.evaluation, "spec.evaluation", EVALUATION)
    for name, wanted in OPTIONAL.items():
        _may(getattr(record, name) or {}, name, wanted)
    for index, row in enumerate(record.timings):
        if "op" in row:
            _need(row, f"timings[{index}]", {**TIMING, **(TIMED if row.get("status") == "ok" else {})})
            _may(row, f"timings[{index}]", {"ms_with_launch": _or_null(NUMBER)})
    for index, score in enumerate(record.scores):
        where = f"scores[{index}]"
        _need(score, where, SCORE)
        _need(score["protocol"], f"{where}.protocol", PROTOCOL)
        _need(score["tally"], f"{where}.tally", TALLY)
        if set(score["tally"]) != set(TALLY):
            raise TypeError(f"{where}.tally must hold {', '.join(TALLY)} alone")


def _need(block: Mapping[str, Any], where: str, wanted: Mapping[str, Kind]) -> None:
    for key in wanted:
        if key not in block:
            raise TypeError(f"{where} lacks {key!r}")
    _may(block, where, wanted)


def _may(block: Mapping[str, Any], where: str, wanted: Mapping[str, Kind]) -> None:
    for key, (test, words) in wanted.items():
        if key in block and not test(block[key]):
            raise TypeError(f"{where}.{key}".lstrip(".") + f" must be {words}")
