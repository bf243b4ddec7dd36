"""Optuna's side of a search: a study in a journal file, which trials to run next, and what became of them.

RESULTS/search/<study>.journal    Optuna's journal: each trial's point, its validations at equal tokens, its value
                <study>.held      locked by the process that runs the study
                runs/             the records of the trials, as of any other runs
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.core.config.space import as_text
from harness.core.errors import BusyError, HarnessError, SuiteError, writing
from harness.core.hashing import canonical_json, content_hash
from harness.core.messages import count, cut
from harness.core.metrics import metric_named, progress_metric, value_of
from harness.results.record import RunRecord
from harness.runs.limits import StopRun
from harness.runs.reporter import Relay, Reporter
from harness.runs.search.space import SPLIT, Request, Space, Trial, in_words, trials_folder
from harness.system.files import refuse_links, remove_tree, write_atomic
from harness.system.reading import read_bytes
from harness.worker.job import Event, Validation

if TYPE_CHECKING:
    import optuna

# Trials before a pruner stops one, and the share that each rung of successive halving keeps.
STARTUP_TRIALS, KEEP_ONE_IN = 5, 2

# What `open_study` stores of a study.
ATTRIBUTES = ("suite", "metric", "space", "identity")

# Some 200,000 trials.
MOST_BYTES = 1 << 30


class KnownTrial(NamedTuple):
    """A trial of a study: its number, its values by axis name, and the ids of its runs."""

    number: int
    values: dict[str, str]
    runs: tuple[str, ...]


def study_path(space: Space, results: Path) -> Path:
    """The journal of a study. Unless named, it is named by all that its trials have in common, and by the space."""
    name = space.request.study
    # Cut, since the two names together may be longer than a file's name.
    stem = f"{space.request.suite.stem[:60]}-{space.entry[:60]}-{content_hash(_identity(space))[:10]}"
    return trials_folder(results) / f"{name or stem}.journal"


@contextmanager
def open_study(space: Space, results: Path) -> Iterator[optuna.Study]:
    """Begin or continue the study of a space, for this process alone.

    Args:
        space: the settings to search.
        results: root of the results tree.

    Raises:
        BusyError: another process runs this study.
        SuiteError: the journal is of another suite or space.
        HarnessError: Optuna is missing.
        StoreError: the file cannot be read or written.
    """
    from filelock import FileLock, Timeout

    require_optuna()
    path = study_path(space, results)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_links(path.parent, results)
        held = FileLock(str(path.with_suffix(".held")))
        try:
            held.acquire(timeout=0)
        except Timeout:
            raise BusyError(f"{path}: another process runs this study; wait for it, or give --study NAME") from None
        try:
            _repair(path)
            yield _load(space, path)
        finally:
            held.release()


def read_study(path: Path) -> optuna.Study:
    """A study for reading. Raises HarnessError if the file is none or is damaged, or if Optuna is missing."""
    require_optuna()
    if not path.is_file():
        raise HarnessError(f"{path}: there is no such study; harness search prints the path of its own, a .journal")
    import optuna

    try:
        names = optuna.get_all_study_names(_storage(path))
        if not names:
            raise HarnessError("it holds no study")
        study = optuna.load_study(study_name=names[0], storage=_storage(path))
        missing = [name for name in ATTRIBUTES if name not in study.user_attrs]
        if missing:
            raise HarnessError(f"its {missing[0]} is missing")
    # Optuna raises what it meets, such as KeyError for a line that is JSON and no entry of a journal.
    except Exception as error:
        raise _damaged(path, error) from None
    return study


def _damaged(path: Path, error: Exception) -> HarnessError:
    """What is wrong with a journal. Optuna's own error counts columns, and does not say in which line."""
    why = str(error) if isinstance(error, HarnessError) else cut(repr(error), 100)
    if isinstance(error, ValueError):
        why = "the value of an entry cannot be read"
        with suppress(OSError):
            # A last line without its end was being written, and is read by nobody.
            for number, line in enumerate(read_bytes(path, MOST_BYTES).split(b"\n")[:-1], 1):
                if not _is_json(line):
                    why = f"line {number} is not JSON"
                    break
    return HarnessError(f"{path}: is not a study of harness search, or is damaged ({why})")


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:  # of text that is no UTF-8, too
        return False
    return True


def pending(
    study: optuna.Study, space: Space, grid: Sequence[Trial] = ()
) -> Iterator[tuple[optuna.trial.Trial, Trial]]:
    """Trials to run: those that an earlier invocation began first, then new ones. Asked for one at a time.

    Args:
        study: of the space.
        space: the settings to search.
        grid: its points, if that is the sampler.

    Yields:
        Optuna's trial and its runs.
    """
    import optuna

    running = [each for each in study.get_trials(deepcopy=False) if each.state == optuna.trial.TrialState.RUNNING]
    for each in running:
        if "values" not in each.user_attrs:  # killed before its point was complete, and so before anything ran
            study.tell(each.number, state=optuna.trial.TrialState.FAIL)
            continue
        yield optuna.trial.Trial(study, each._trial_id), space.trial(dict(each.user_attrs["values"]))
    known = {in_words(trial.values): trial for trial in grid}
    for trial in grid:
        study.enqueue_trial(_parameters(space, trial.values), skip_if_exists=True)
    while _num_left(study, space) > 0:
        study.sampler = _sampler(space.request, len(study.get_trials(deepcopy=False)))
        asked = study.ask()
        values = _suggest(asked, space)
        trial = known.get(in_words(values)) or space.trial(values)
        asked.set_user_attr("sampler", space.request.sampler)
        asked.set_user_attr("runs", [spec.run_id for spec in trial.specs])
        asked.set_user_attr("values", trial.values)
        yield asked, trial


def tell(study: optuna.Study, asked: optuna.trial.Trial, records: Sequence[RunRecord], metric: str) -> None:
    """Store what became of a trial. One that failed stays open: the next invocation tries it again.

    Args:
        study: the trial's.
        asked: Optuna's trial.
        records: of its runs.
        metric: that the search compares.
    """
    from optuna.trial import TrialState

    _report_curve(asked, records)
    statuses = {record.status for record in records}
    scores = [score_of(record, metric) for record in records]
    values = [score for score in scores if score is not None]
    if len(values) == len(records):
        study.tell(asked, float(np.mean(values)))
    elif "pruned" in statuses:
        study.tell(asked, state=TrialState.PRUNED)
    elif "failed" not in statuses:
        study.tell(asked, state=TrialState.FAIL)


def known_trials(study: optuna.Study) -> list[KnownTrial]:
    """Every trial whose point is known."""
    known = [each for each in study.get_trials(deepcopy=False) if "values" in each.user_attrs]
    return [KnownTrial(each.number, dict(each.user_attrs["values"]), tuple(each.user_attrs["runs"])) for each in known]


def samplers_of(study: optuna.Study) -> Counter[str]:
    """How many of the trials with a value each sampler drew."""
    return Counter(
        # A point of a grid is given to whoever asks next.
        "grid" if "fixed_params" in each.system_attrs else each.user_attrs.get("sampler", "an unnamed sampler")
        for each in study.get_trials(deepcopy=False)
        if each.state.name == "COMPLETE"
    )


def bias_of(study: optuna.Study) -> str | None:
    """Why the trials of a study are no random sample; None if they are one."""
    reasons = [
        f"{count(number, 'trial')} drawn by {sampler}"
        for sampler, number in sorted(samplers_of(study).items())
        if sampler != "random"
    ]
    pruners: set[str] = {
        each.user_attrs.get("pruner", "an unnamed rule" if each.state.name == "PRUNED" else "none")
        for each in study.get_trials(deepcopy=False)
    }
    reasons += [f"trials pruned by {name}" for name in sorted(pruners - {"none"})]
    return ", ".join(reasons) or None


def score_of(record: RunRecord, metric: str) -> float | None:
    """The finite value of a metric on the validation split; None of a run that did not finish."""
    from harness.report import primary_protocol

    if record.status != "finished":
        return None
    place = (SPLIT, primary_protocol(record))
    score = next((each for each in record.scores if (each.split, each.protocol.name) == place), None)
    return value_of(score, metric) if score else None


class TrialReporter(Relay):
    """Reports a run's validations to Optuna as well, and stops the run if the study's pruner says so.

    Validations are compared at equal tokens: at multiples of the recipe's `every_tokens`. One is made after the first
    window that reaches a multiple, so trials of other batch or window differ by less than a window.

    Args:
        inner: what prints the events.
        asked: Optuna's trial.
        trial: its runs.
        pruner: name of the rule, for the record.
    """

    def __init__(self, inner: Reporter, asked: optuna.trial.Trial, trial: Trial, pruner: str) -> None:
        recipe = trial.specs[0].recipe
        assert recipe is not None
        super().__init__(inner)
        self.asked, self.pruner = asked, pruner
        self.every, self.total = recipe.validation.every_tokens, recipe.tokens

    def start(self, name: str, metric: str) -> None:
        # Not when its point is drawn: another invocation may continue it under another rule.
        if self.pruner != "none":
            self.asked.set_user_attr("pruner", self.pruner)
        super().start(name, metric)

    def event(self, event: Event) -> None:
        super().event(event)
        if not isinstance(event, Validation) or self.pruner == "none" or event.value is None or self.every is None:
            return
        is_last = self.total is not None and event.tokens >= self.total
        step = _report(self.asked, event.tokens, event.value, self.every)
        # At the end there is nothing left to save, and the trial's score is worth more than its last validation.
        if step and not is_last and self.asked.should_prune():
            raise StopRun(f"{self.pruner} pruner at {step:,} tokens, validation {event.value:.4g}")


def require_optuna() -> None:
    """Import Optuna without its messages. Raises HarnessError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise HarnessError("a search needs Optuna: pip install 'lm-harness[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _identity(space: Space) -> dict[str, object]:
    """What the trials of a study have in common: runs in which every axis has the suite's value, and the axes."""
    first = space.specs[0].label
    return {
        "suite": first.suite,
        "entry": space.entry,
        "metric": space.metric,
        "runs": [spec.run_id for spec in space.specs],
        "space": {name: [parameter.kind, parameter.ends, parameter.when] for name, parameter in space.axes.items()},
    }


def _storage(path: Path) -> optuna.storages.JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(path)))


def _repair(path: Path) -> None:
    """Remove what a killed process left: its lock, and an unfinished line, to which the next would be added."""
    remove_tree(Path(f"{path}.lock"))
    if path.is_file():
        whole, newline, torn = read_bytes(path, MOST_BYTES).rpartition(b"\n")
        if torn:
            write_atomic(path, whole + newline)


def _load(space: Space, path: Path) -> optuna.Study:
    import optuna

    identity = _identity(space)
    is_higher_better = metric_named(space.metric).higher_is_better
    try:
        storage = _storage(path)
        # A journal has one study, whose name stays when the file is renamed or copied.
        [name] = optuna.get_all_study_names(storage) or [path.stem]
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize" if is_higher_better else "minimize",
            load_if_exists=True,
            pruner=_pruner(space),
        )
    except OSError:
        raise
    except Exception as error:  # of any class, as in `read_study`
        raise _damaged(path, error) from None
    of = study.user_attrs.get("identity")
    if of is None:
        study.set_user_attr("suite", f"{identity['suite']}, entry {space.entry}")
        study.set_user_attr("metric", space.metric)
        study.set_user_attr("space", list(space.axes))
        study.set_user_attr("identity", identity)
    elif canonical_json(of) != canonical_json(identity):
        raise SuiteError(f"{path}: is {_difference(of, identity, study)}; give another --study NAME")
    return study


def _difference(of: Mapping[str, object], identity: Mapping[str, object], study: optuna.Study) -> str:
    if (of["suite"], of["entry"]) != (identity["suite"], identity["entry"]):
        return f"the study of {study.user_attrs['suite']}, not of {identity['suite']}, entry {identity['entry']}"
    is_same = canonical_json(of["space"]) == canonical_json(identity["space"])
    part = "other data, recipe, seeds or device" if is_same else "another space"
    return f"a study of {study.user_attrs['suite']} with {part}"


def _pruner(space: Space) -> optuna.pruners.BasePruner:
    from optuna import pruners

    recipe = space.specs[0].recipe
    every = (recipe.validation.every_tokens if recipe else None) or 1
    if space.request.pruner == "median":
        return pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    if space.request.pruner == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=every, reduction_factor=KEEP_ONE_IN)
    return pruners.NopPruner()


def _sampler(request: Request, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial, seeded by its number: a study that was killed goes on as it would have."""
    from optuna import samplers

    seed = int(np.random.SeedSequence([0, number]).generate_state(1)[0])
    return samplers.TPESampler(seed=seed) if request.sampler == "tpe" else samplers.RandomSampler(seed=seed)


def _num_left(study: optuna.Study, space: Space) -> int:
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    if space.request.sampler == "grid":
        return sum(each.state == TrialState.WAITING for each in trials)
    return (space.request.num_trials or 0) - sum("values" in each.user_attrs for each in trials)


def _suggest(asked: optuna.trial.Trial, space: Space) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, parameter in space.axes.items():
        if not space.is_active(name, values):
            continue
        if parameter.texts:
            values[name] = asked.suggest_categorical(name, parameter.texts)
            continue
        low, high = parameter.bounds
        is_log = parameter.is_log
        if parameter.is_integer:
            values[name] = as_text(asked.suggest_int(name, int(low), int(high), log=is_log))
        else:
            values[name] = as_text(asked.suggest_float(name, low, high, log=is_log))
    return values


def _parameters(space: Space, values: dict[str, str]) -> dict[str, object]:
    """A point of a grid as Optuna stores it: texts of choices, and whole numbers."""
    return {name: text if space.axes[name].texts else int(text) for name, text in values.items()}


def _report(asked: optuna.trial.Trial, tokens: int, value: float, every: int) -> int | None:
    """Report a validation at the last multiple of `every`; None if there is none or it was reported before."""
    step = tokens // every * every
    reported = asked.study.get_trials(deepcopy=False)[asked.number].intermediate_values
    if step == 0 or step in reported:
        return None
    asked.report(value, step)
    return step


def _report_curve(asked: optuna.trial.Trial, records: Sequence[RunRecord]) -> None:
    """Report the validations of a run that was finished before and gave no events: later trials are judged by them."""
    if len(records) != 1 or (recipe := records[0].spec.recipe) is None or recipe.validation.every_tokens is None:
        return
    metric = progress_metric(records[0].spec.label.metrics)
    for row in records[0].curve:
        if isinstance(row.get("tokens"), int) and isinstance(row.get("valid_nll_nats"), float):
            _report(asked, row["tokens"], metric.of_rate(row["valid_nll_nats"]), recipe.validation.every_tokens)
