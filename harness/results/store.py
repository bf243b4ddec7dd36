"""The results tree: one folder per run, written atomically, found again by content.

RESULTS/runs/<run_id>/record.json    everything but the curve and the trace, which it names with their checksums
                      curve.csv      the learning curve
                      trace.csv      thinned sensor readings
                      nll-SPLIT.safetensors  the loss of each target, if the suite asks to keep it
                      labels.json    the run's places in tables
                      checkpoints/   written by the training loop
                      history/       records that later ones replaced, named by their start
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.core.audits import ScoreAudit
from harness.core.errors import BusyError, StoreError, writing
from harness.core.hashing import has_digest, with_digest, without_digest
from harness.core.json_values import parse_value, read_json
from harness.core.messages import count, printable_value, reason
from harness.core.specs import Label
from harness.results import target_files
from harness.results.record import RECORD_SCHEMA, RunRecord, check_sums
from harness.results.record_file import FILES, json_text, plain, read_apart, write_apart, write_rows
from harness.system.files import refuse_links, relocate, remove_tree, write_atomic
from harness.system.paths import is_plain, under
from harness.system.reading import read_bytes

RECORD, LABELS = "record.json", "labels.json"
LABEL_LOCK_S = 10.0
FIELDS = tuple(field.name for field in dataclasses.fields(RunRecord))


class Store:
    """Records of one results folder.

    Attributes:
        root: the folder, which need not exist yet.
        problems: one line for each file that the last call of `records`, or a `write` after it, could not read.
        remarks: what the last call of `records` found that leaves no record out, one line each.
        num_left_out: records that the last call of `records` could not read.
    """

    def __init__(self, root: Path) -> None:
        """Raises StoreError if `root` is a file."""
        self.root = Path(root)
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.num_left_out = 0
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root}: is a file, not a results folder; name a folder")

    def run_folder(self, run_id: str) -> Path:
        """Folder of a run, which need not exist. Raises StoreError for an id that cannot name a folder."""
        try:
            return under(self.root / "runs", run_id)
        except OSError as error:
            raise StoreError(
                f"a run's id cannot name a folder: {error.strerror}; give the dataset a plainer name"
            ) from None

    def find(self, run_id: str) -> RunRecord | None:
        """The record of a run, or None. Raises StoreError if it exists and cannot be read."""
        folder = self.run_folder(run_id)
        return _read(folder, [])[0] if (folder / RECORD).exists() else None

    def records(self) -> list[tuple[RunRecord, list[Label]]]:
        """Every readable record with its labels, sorted by run id; `problems` names the others."""
        self.problems, self.remarks, self.num_left_out = [], [], 0
        rows = []
        num_old_records = num_old_labels = 0
        runs = self.root / "runs"
        for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
            try:
                # An unfinished run: it has checkpoints and no record yet.
                if not (folder / RECORD).exists():
                    continue
                record, is_stamped = _read(folder, self.remarks)
                labels, labels_are_stamped = self._labels(folder)
                rows.append((record, labels or [record.spec.label]))
                num_old_records += not is_stamped
                num_old_labels += not labels_are_stamped
            except StoreError as problem:
                self.problems.append(str(problem))
                self.num_left_out += 1
            except OSError as error:
                self.problems.append(f"{folder}: cannot be read: {reason(error)}")
                self.num_left_out += 1
        old = "without a digest, from before there was one"
        if num_old_records:
            self.remarks.append(f"{count(num_old_records, 'record')} {old}: held against themselves only")
        if num_old_labels:
            self.remarks.append(f"{count(num_old_labels, 'file')} {LABELS} {old}")
        return rows

    def earlier(self, run_id: str) -> list[RunRecord]:
        """The readable records of a run in its history, without curves and traces, oldest first."""
        found = []
        for path in sorted((self.run_folder(run_id) / "history").glob("*.json")):
            with suppress(OSError, ValueError, TypeError, StoreError):
                value = _from_json(path)
                _check_schema(value, path)
                found.append(parse_value(RunRecord, printable_value({**value, "curve": [], "traces": []})))
        return [record for record in found if record.run_id == run_id]

    def write(self, record: RunRecord) -> None:
        """Write a record whole or not at all, and its label; a record it replaces goes to history.

        Raises StoreError for a value that JSON cannot hold and for a failing disk. After the record is written nothing
        is raised: unreadable labels are set aside and named in `problems`.
        """
        folder = self.run_folder(record.run_id)
        self._refuse_links(folder)
        body = plain({name: getattr(record, name) for name in FIELDS}, folder / RECORD)
        body["spec"]["checkpoint"] = self._portable(body["spec"]["checkpoint"])
        # History first: a kill after this line has lost nothing.
        with writing(folder):
            self._keep(folder)
            # First with its rows inside, then with the names of their files: a kill between the two leaves a whole
            # record, never one that names a file of another attempt.
            write_atomic(folder / RECORD, json_text(with_digest(body)))
            named = write_apart(body, folder)
            if named != body:
                write_atomic(folder / RECORD, json_text(with_digest(named)))
        try:
            self.label(record.run_id, record.spec.label)
        except StoreError as problem:
            self.problems.append(str(problem))

    def archive(self, run_id: str) -> None:
        """Move a run's record to its history: `find` no longer returns it. No-op without a record."""
        folder = self.run_folder(run_id)
        self._refuse_links(folder)
        with writing(folder):
            self._keep(folder)
            # The record first: a kill in between leaves rows without a record, never a record without its rows.
            for path in (folder / RECORD, *map(folder.joinpath, FILES.values()), *folder.glob(target_files.PATTERN)):
                remove_tree(path)

    def amend(self, run_id: str, **costs: Any) -> None:
        """Add costs that are known only after the worker ended. No-op without a record.

        Args:
            run_id: the run.
            costs: keys to set in the record's `costs`.

        Raises:
            StoreError: the record cannot be read or written.
        """

        def change(body: dict[str, Any], path: Path) -> None:
            body["costs"] = {**(body.get("costs") or {}), **plain(costs, path, "costs")}

        self._change(run_id, change)

    def add_audits(self, run_id: str, audits: Mapping[int, ScoreAudit]) -> None:
        """Add audits to the scores of a record, or replace them. No-op without a record.

        Args:
            run_id: the run.
            audits: index of the score -> its audit.

        Raises:
            StoreError: the record cannot be read or written.
        """

        def change(body: dict[str, Any], path: Path) -> None:
            for index, audit in audits.items():
                body["scores"][index]["audit"] = plain(audit, path, f"scores[{index}].audit")

        self._change(run_id, change)

    def _change(self, run_id: str, change: Callable[[dict[str, Any], Path], None]) -> None:
        """Change a record in its place."""
        folder = self.run_folder(run_id)
        if self.find(run_id) is None:
            return
        # From the file's text, which keeps the rows in their CSV files and the keys of a newer version.
        body = _from_json(folder / RECORD)
        change(body, folder / RECORD)
        self._refuse_links(folder)
        with writing(folder):
            write_atomic(folder / RECORD, json_text(with_digest(body)))

    def label(self, run_id: str, label: Label) -> None:
        """Give a run a place in a table, replacing a label of the same suite, entry and profile.

        Unreadable labels are set aside and named in `problems`.

        Args:
            run_id: the run.
            label: its place.

        Raises:
            StoreError: the labels cannot be written.
        """
        from filelock import FileLock, Timeout

        folder = self.run_folder(run_id)
        self._refuse_links(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                # Two commands may label one run at the same time; without the lock one label would be lost.
                with FileLock(str(folder / "labels.lock"), timeout=LABEL_LOCK_S):
                    self._set_damaged_labels_aside(folder)
                    self._add_label(folder, label)
            # Caught inside: Timeout is an OSError, which `writing` would report as a failing disk.
            except Timeout as error:
                raise StoreError(f"{folder}: another process holds labels.lock; try again") from error

    @contextmanager
    def lock(self, run_id: str, *, name: str = "run", wait_s: float = 0.0, doing: str = "running") -> Iterator[None]:
        """Hold a run for this process.

        Args:
            run_id: the run.
            name: of the lock; parent and worker hold different ones.
            wait_s: seconds to wait for another process.
            doing: what the message says that the other process does.

        Raises:
            BusyError: another process still holds the lock.
        """
        from filelock import FileLock, Timeout

        folder = self.run_folder(run_id)
        # The system releases the lock of a process that dies, so the file that a kill leaves behind blocks nobody.
        lock = FileLock(str(folder / f"{name}.lock"))
        self._refuse_links(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=wait_s)
            except Timeout as error:
                raise BusyError(
                    f"another process is {doing} {run_id} in {self.root}; wait for it, or name another results folder"
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _refuse_links(self, folder: Path) -> None:
        with writing(folder):
            refuse_links(folder, self.root)

    def _labels(self, folder: Path) -> tuple[list[Label], bool]:
        """The labels of a run, and whether their file has a digest, which an older version did not write."""
        path = folder / LABELS
        if not path.exists():
            return [], True
        try:
            value = _from_json(path)
            return parse_value(list[Label], printable_value(without_digest(value))), isinstance(value, dict)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read: {reason(error)}") from error
        except ValueError as error:
            raise StoreError(
                f"{path}: is damaged ({reason(error)}); delete it to use the label inside the record"
            ) from error

    def _set_damaged_labels_aside(self, folder: Path) -> None:
        try:
            self._labels(folder)
        except StoreError as problem:
            aside = _unused(folder, "damaged-labels")
            (folder / LABELS).replace(aside)
            text = str(problem).partition("; delete")[0]
            self.problems.append(f"{text}; kept as {aside.name}, and replaced by the label of this run")

    def _add_label(self, folder: Path, label: Label) -> None:
        known = {_place(each): each for each in self._labels(folder)[0]}
        if known.get(_place(label)) != label:
            path = folder / LABELS
            # The rows as they are in the file: a newer version may have written keys that a Label has no field for.
            rows = printable_value(without_digest(_from_json(path))) if path.exists() else []
            by_place = {(row["suite"], row["entry"], row["profile"]): row for row in rows}
            by_place[_place(label)] = dataclasses.asdict(label)
            rows = [by_place[place] for place in sorted(by_place)]
            write_atomic(path, json.dumps(with_digest(rows), indent=1, ensure_ascii=False) + "\n")

    def _portable(self, checkpoint: str | None) -> str | None:
        """A checkpoint inside the results tree, relative to it: a copied tree must not name its old place."""
        if checkpoint is None:
            return None
        path, root = Path(checkpoint).resolve(), self.root.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else checkpoint

    def _keep(self, folder: Path) -> None:
        """Copy the present record into the history; an unreadable one is moved there."""
        path = folder / RECORD
        if not path.exists():
            return
        history = folder / "history"
        try:
            record, _ = _read(folder, [])
        except StoreError:
            relocate(path, _unused(history, "damaged"))
            return
        # From the file's text: a newer version may have written keys for which RunRecord has no field.
        body = {**_from_json(path), "curve": record.curve, "traces": record.traces}
        # Windows allows no colon in a file name, and ISO times have two.
        stem = record.started_at.replace(":", "")
        path = _unused(history, stem if is_plain(stem) else "undated")
        if body["traces"]:
            # A trace has hundreds of rows, too many to read inside JSON.
            name = f"{path.stem}-{FILES['traces']}"
            body["traces"] = write_rows(path.with_name(name), body["traces"])
        write_atomic(path, json_text(with_digest(body)))


def _read(folder: Path, remarks: list[str]) -> tuple[RunRecord, bool]:
    """The record of a folder with its rows, and whether it has a digest; a missing or damaged file of rows is a remark.

    Raises StoreError naming the file and the problem.
    """
    path = folder / RECORD
    try:
        value = _from_json(path)
        _check_schema(value, path)
        body = dict(value)
        for field, name in FILES.items():
            try:
                value[field] = read_apart(value[field], folder, name)
            # The score does not depend on these rows, so it is kept without them.
            except StoreError as problem:
                value[field] = []
                remarks.append(f"{problem}; its rows are left out")
        # Texts of a record reach terminals, documents and pictures.
        record = parse_value(RunRecord, printable_value(value))
        # Not read here: only comparisons per byte need them, and they are as large as the text.
        kept = [under(folder, score.target_file.file) for score in record.scores if score.target_file is not None]
        remarks += [f"{path}: is missing; nothing is compared per byte" for path in kept if not path.is_file()]
        check_sums(record)
        # Last, since the checks before it name the part that is wrong.
        is_stamped = has_digest(body)
        if record.run_id != folder.name:
            raise ValueError(f"it is the record of {record.run_id}")
    except OSError as error:
        raise StoreError(f"{error.filename or path}: cannot be read: {reason(error)}") from error
    # KeyError and TypeError come from missing keys.
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: is damaged ({reason(error)}); move it away and run again") from error
    return record, is_stamped


def _check_schema(value: Any, path: Path) -> None:
    if not isinstance(value, dict):
        raise TypeError("not a JSON object")
    schema = value.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise ValueError(f"schema is {schema!r}")
    # Fields of a newer schema may mean something else, so no part of it is shown.
    if schema > RECORD_SCHEMA:
        raise StoreError(
            f"{path}: has schema {schema}, this harness reads up to {RECORD_SCHEMA}; update the harness to read it"
        )


def _from_json(path: Path) -> Any:
    """Raises ValueError for NaN and infinity too: `write` never puts them into a file."""
    return read_json(read_bytes(path))


def _place(label: Label) -> tuple[str, str, str]:
    return (label.suite, label.entry, label.profile)


def _unused(folder: Path, stem: str) -> Path:
    """An unused file name in the folder."""
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path
