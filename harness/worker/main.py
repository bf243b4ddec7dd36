"""One RunSpec -> one RunRecord, in a process of its own.

The parent sends one job as a line of JSON on standard input and keeps the pipe open; its end means that the parent
is gone, and the run is saved and stopped. Events go back as lines of JSON on what was standard output.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core import deadline
from harness.core.errors import HarnessError, StoreError, SuiteError
from harness.core.hashing import content_hash
from harness.core.json_values import parse_value
from harness.core.specs import RunSpec
from harness.results.record import RunRecord
from harness.results.record_file import plain
from harness.worker.partial_scores import SCORES, KeptScores, forget

if TYPE_CHECKING:
    from harness.config.recipe import Recipe
    from harness.core.scores import Score
    from harness.monitoring.costs.meter import Meter
    from harness.results.costs import GemmRate
    from harness.results.store import Store
    from harness.training.trainer import Progress, Trainer

EXIT_INTERRUPTED = 75
"""sysexits.h EX_TEMPFAIL: stopped on request, and can be taken up again."""

ORPHAN_GRACE_S = 60.0
"""How long a worker whose parent is gone may take to save. Nobody is left to kill one that hangs in a device's call,
and it would keep the device."""

Emit = Callable[[dict[str, Any]], None]
Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told: the spec, the prepared data's folder, the results tree, the installed code.

    sensors: whether the hardware is watched. left_s: seconds until the worker must begin to save, None for as long as
    it takes. calibrate_s: measure how fast the run would go, for about so long per part, instead of running it.
    """

    spec: RunSpec
    prepared: Path
    results: Path
    code: Mapping[str, str]
    sensors: bool = True
    left_s: float | None = None
    calibrate_s: float | None = None

    def to_line(self) -> str:
        return json.dumps(
            {
                "spec": plain(self.spec, Path("job")),
                "prepared": str(self.prepared),
                "results": str(self.results),
                "code": dict(self.code),
                "sensors": self.sensors,
                "left_s": self.left_s,
                "calibrate_s": self.calibrate_s,
            }
        )

    @classmethod
    def from_line(cls, line: str) -> Job:
        value = json.loads(line)
        return cls(
            parse_value(RunSpec, value["spec"]),
            Path(value["prepared"]),
            Path(value["results"]),
            dict(value["code"]),
            bool(value["sensors"]),
            value["left_s"],
            value["calibrate_s"],
        )


def main() -> int:
    """Entry of `python -m harness.worker.main`. Returns 0 with a record written, EXIT_INTERRUPTED with none."""
    emit = _claim_stdout()
    job = Job.from_line(_read_line(0))
    stop = _watch_for_stop()
    if job.left_s is not None:
        stop = deadline.ending(job.left_s - _reserve_s(job.spec), stop)
    from harness.results.store import Store

    store = Store(job.results)
    try:
        # A worker whose parent was killed is still saving: two must not write into the same folder.
        held = job.spec.run_id if job.calibrate_s is None else job.spec.seedless_id
        with store.lock(held, name="worker", wait_s=ORPHAN_GRACE_S + 5, doing="still saving"):
            return _work(job, store, emit, stop)
    except StoreError as problem:
        print(problem, file=sys.stderr)
        return 1


def _work(job: Job, store: Store, emit: Emit, stop: Stop) -> int:
    from harness.training.trainer import Interrupted

    if job.calibrate_s is not None:
        return _calibrate(job, store.run_folder(job.spec.seedless_id) / "calibration", emit, stop)
    try:
        record = run(job, store.run_folder(job.spec.run_id), emit, stop)
    except Interrupted as reason:
        emit({"event": "interrupted", "where": str(reason)})
        return EXIT_INTERRUPTED
    keep(record, store)
    for problem in store.problems:
        emit({"event": "problem", "text": problem})
    emit({"event": "record", "status": record.status, "error": record.error})
    return 0


def keep(record: RunRecord, store: Store) -> None:
    """Write the record, and only then forget the scores that waited for it; a run that is tried again still has them.

    Raises StoreError where the record cannot be written.
    """
    store.write(record)
    if record.status != "failed":
        forget(store.run_folder(record.run_id) / "checkpoints" / SCORES)


def run(job: Job, folder: Path, emit: Emit, stop: Stop) -> RunRecord:
    """Train or load, score, and say how it went: a failure is a record too. Raises only Interrupted."""
    from harness.monitoring.costs import account
    from harness.monitoring.costs.attempts import Attempts
    from harness.monitoring.costs.meter import Meter, startup
    from harness.training.trainer import Diverged, Interrupted

    started = time.monotonic()
    record = RunRecord(
        run_id=job.spec.run_id,
        spec=job.spec,
        status="finished",
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code=dict(job.code),
    )
    attempts = Attempts(folder / "checkpoints")
    account.recover(attempts)
    attempts.begin(record.started_at, startup() if job.sensors else None)
    meter = Meter(attempts, job.spec.device, sensors=job.sensors)
    meter.start()
    try:
        _fill(record, job, folder, meter.with_readings(emit), stop, meter)
    except Interrupted:
        attempts.end(time.monotonic() - started, "interrupted", meter.stop())
        raise
    except Diverged as reason:
        record.status, record.error = "diverged", str(reason)
    except HarnessError as error:
        record.status, record.error = "failed", str(error)
    except Exception as error:  # a crash becomes a record; the traceback goes to the run's own log
        traceback.print_exc()
        record.status, record.error = "failed", _one_line(error)
    own = meter.stop()
    record.seconds = time.monotonic() - started
    attempts.end(record.seconds, record.status, own)
    meter.complete(record)
    return record


def _reserve_s(spec: RunSpec) -> float:
    """Kept at a leg's end: two checkpoints' time, since the last one may come just after another."""
    return 2 * float(spec.plan["rates"]["save_s"]) if spec.plan is not None else 0.0


def _calibrate(job: Job, folder: Path, emit: Emit, stop: Stop) -> int:
    """Measure in place of running; what went wrong is the last line on standard error."""
    import shutil

    from harness.training.trainer import Diverged, Interrupted
    from harness.worker import calibrate

    spec, seconds = job.spec, job.calibrate_s or 0.0
    try:
        model, corpus = _load(RunRecord(run_id=spec.run_id, spec=spec, status="finished"), job, emit)

        def make_trainer(hooks: Any) -> Trainer:
            return _trainer(spec, model, corpus, folder, job.code["source_sha256"], hooks)

        rates = calibrate.measure(spec, model, corpus, make_trainer, folder, seconds=seconds, stop=stop)
    except Interrupted:
        return EXIT_INTERRUPTED
    except (HarnessError, Diverged) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    emit({"event": "rates", "rates": rates})
    return 0


def _fill(record: RunRecord, job: Job, folder: Path, emit: Emit, stop: Stop, meter: Meter) -> None:
    """Do the work of one run, putting each part into the record as soon as it is known."""
    spec = job.spec
    with meter.phase("load"):
        model, corpus = _load(record, job, emit)
        meter.attempts.set_machine(record.machine["fingerprint"])
    if spec.recipe is not None:
        with meter.phase("train"):
            _train(record, model, corpus, folder, emit, stop)
    with meter.phase("evaluate"):
        kept = KeptScores(folder / "checkpoints" / SCORES, _scored_thing(record))
        record.scores = _evaluate(spec, model, corpus, kept, emit, stop)
    with meter.phase("kernels"):
        record.timings = _time_kernels(spec, model, emit, stop)
        if spec.recipe is not None:
            meter.add_gemm(lambda: _time_gemm(spec))
    # A protocol that adapts may run away from weights that are sound: that is said in its own row alone.
    static = [score for score in record.scores if score.adaptation is None]
    if not all(math.isfinite(value) for score in static for value in score.metrics.values()):
        record.status, record.error = "diverged", "a score is not a finite number"


def _load(record: RunRecord, job: Job, emit: Emit) -> tuple[Any, Any]:
    """The model, with a checkpoint's weights where the spec names one, and the corpus."""
    import torch

    import models
    from harness import data
    from harness.checkpoints import model as kept
    from harness.system import hardware
    from harness.system import source as code

    spec = job.spec
    if code.installed().to_json() != dict(job.code):
        raise HarnessError("the harness's own code changed after the command was given; give it again")
    kept.check_device(spec.device, builder=str(spec.model["builder"]), kernel=spec.kernel)
    kept.forbid_tf32()
    torch.manual_seed(spec.seed)
    record.machine = hardware.describe(spec.device).to_json()
    corpus = data.load(job.prepared)
    record.data = dict(corpus.manifest)
    emit({"event": "start", "num_threads": torch.get_num_threads(), "metric": spec.label.metrics[0]})

    config = kept.model_config(spec.model)
    dtype = torch.float64 if spec.dtype == "float64" else torch.float32
    try:
        model = models.build(spec.model["builder"], config, vocab_size=corpus.vocab_size, kernel=spec.kernel)
    except ValueError as error:
        raise SuiteError(f"{spec.label.suite}: entries.{spec.label.entry}.model: {error}") from None
    model = model.to(device=spec.device, dtype=dtype)
    record.model = {
        "builder": spec.model["builder"],
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": spec.dtype,
        "kernels": dict(getattr(model, "kernels", {})),
        "forward_flops_per_token": config.forward_flops_per_token(corpus.vocab_size),
    }
    if spec.recipe is None and spec.checkpoint is not None:
        record.model["weights_dtype"] = kept.load_for(spec, model, corpus)
    return model, corpus


def _train(record: RunRecord, model: Any, corpus: Any, folder: Path, emit: Emit, stop: Stop) -> None:
    """Fit, then put the kept weights back into the model. What training said stays in the record if it diverges."""
    from harness.checkpoints import format
    from harness.config.speed import unverified
    from harness.core.metrics import METRICS
    from harness.core.scores import Tally
    from harness.training.trainer import Diverged, Hooks

    spec = record.spec
    metric = METRICS[spec.label.metrics[0]]

    def value(nll_per_unit: float | None) -> float | None:
        return None if nll_per_unit is None else metric.compute(Tally(nll_per_unit, 1, 1, 0))

    def on_step(progress: Progress, nll_per_token: float) -> None:
        emit(
            {
                "event": "train",
                "epoch": progress.epoch,
                "tokens": progress.tokens,
                "total_tokens": trainer.total_tokens,
                "loss": value(nll_per_token),
                "best": value(progress.best_nll_per_unit),
                "seconds": progress.seconds,
            }
        )

    def on_validation(row: dict[str, Any]) -> None:
        emit({"event": "validation", **row, "value": value(row["valid_nll_nats"])})

    hooks = Hooks(on_step, on_validation, stop)
    trainer = _trainer(spec, model, corpus, folder / "checkpoints", record.code["source_sha256"], hooks)
    recipe = trainer.recipe
    record.model["speed"] = asdict(trainer.speed)
    if trainer.resume():
        threads = trainer.progress.thread_counts
        emit({"event": "resumed", "tokens": trainer.progress.tokens, "step": trainer.progress.step, "threads": threads})
    try:
        trainer.fit()
    except Diverged:
        record.training, record.curve = _training_summary(trainer.progress, recipe), trainer.progress.curve
        raise
    finally:
        # Only now: which backend a layer takes may hang on its first call's shapes and dtype.
        record.model["kernels"] = dict(getattr(model, "kernels", {}))
        record.model["unverified"] = unverified(trainer.speed, record.model["kernels"], spec.dtype, spec.device)
    best = folder / "checkpoints" / "best"
    format.load_into(model, format.load_group(best, format.read_index(best), "model"), best)
    record.training, record.curve = _training_summary(trainer.progress, recipe), trainer.progress.curve
    record.training["checkpoint_sha256"] = format.fingerprint(best)


def _trainer(spec: RunSpec, model: Any, corpus: Any, folder: Path, code_sha256: str, hooks: Any) -> Trainer:
    """The spec's training loop over its model, as it runs and as a calibration watches it."""
    from harness.config.speed import applied
    from harness.training.trainer import Trainer

    assert spec.recipe is not None
    return Trainer(
        model,
        corpus,
        spec.recipe,
        seed=spec.seed,
        folder=folder,
        identity=spec.checkpoint_identity(code_sha256),
        autocast=_autocast(spec),
        speed=applied(spec.speed, spec.device),
        loss_scale=spec.dtype == "float16",
        checkpoint_every_s=spec.checkpoint_every_s,
        hooks=hooks,
    )


def _training_summary(progress: Progress, recipe: Recipe) -> dict[str, Any]:
    from harness.training.progress import stage_summary

    return {
        "tokens": progress.tokens,
        "steps": progress.step,
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_step": progress.best_step,
        "best_valid_nll_nats": progress.best_nll_per_unit,
        "validation_protocol": asdict(recipe.validation),
        "seconds": progress.seconds,
        "validation_seconds": progress.validation_seconds,
        "tokens_per_s": progress.tokens / progress.seconds if progress.seconds else None,
        "thread_counts": progress.thread_counts,
        **stage_summary(progress, recipe),
    }


def _scored_thing(record: RunRecord) -> str:
    """A hash of what is scored, and by which code: scores of anything else are no use to a later leg."""
    weights = (record.training or {}).get("checkpoint_sha256") or record.spec.checkpoint_sha256
    return content_hash([record.spec.identity, record.code["source_sha256"], weights])


def _evaluate(spec: RunSpec, model: Any, corpus: Any, kept: KeptScores, emit: Emit, stop: Stop) -> list[Score]:
    """Scores of every split under every protocol; those that an earlier leg has scored are not scored again.

    Adaptive protocols start from the others' scores and need all of them at hand.
    """
    from harness.evaluation.adaptive import score_adapted
    from harness.evaluation.protocols import Tick, score_splits
    from harness.training.trainer import Interrupted

    def on_start(split: str, protocol: str, num_targets: int) -> Tick:
        done = 0
        emit({"event": "evaluate", "split": split, "protocol": protocol, "done": 0, "total": num_targets})

        def tick(scored: int) -> None:
            nonlocal done
            done += scored
            emit({"event": "evaluate", "split": split, "protocol": protocol, "done": done, "total": num_targets})
            if stop():
                raise Interrupted(f"scoring {split}")

        return tick

    evaluation = spec.evaluation
    metrics, splits = spec.label.metrics, evaluation.splits
    rows: list[Score] = []
    scores: list[Score] = []
    for protocol in evaluation.protocols:
        for split in splits:
            row = kept.find(protocol, split) if evaluation.adaptive is None else None
            if row is None:
                piece = replace(evaluation, protocols=(protocol,), splits=(split,))
                scores += score_splits(model, corpus.splits, piece, metrics, on_start=on_start)
                row = scores[-1]
                kept.add(row)
            rows.append(row)
    if evaluation.adaptive is not None:
        adapted = score_adapted(
            model,
            corpus.splits,
            evaluation.adaptive,
            metrics,
            score=splits,
            window=evaluation.window,
            static=scores,
            on_start=on_start,
        )
        rows += adapted
    return rows


def _time_kernels(spec: RunSpec, model: Any, emit: Emit, stop: Stop) -> list[dict[str, Any]]:
    """Rows of the ops the suite asks for and this model runs, at the model's own shapes."""
    if not spec.kernels:
        return []
    from harness.timing.model_cases import cases_of, time_case
    from harness.training.trainer import Interrupted

    rows = []
    for op, backend, case in cases_of(spec, model):
        if stop():
            raise Interrupted(f"timing {op}")
        emit({"event": "timing", "op": op, "backend": backend, "case": case.name})
        rows += time_case(spec, op, backend, case)
    return rows


def _time_gemm(spec: RunSpec) -> GemmRate:
    """The rate of a matrix product in the run's dtype on its device."""
    import torch

    from harness.results.costs import GemmRate
    from harness.timing.gemm import gemm_rate

    return GemmRate(**gemm_rate(spec.device, getattr(torch, spec.dtype)))


def _autocast(spec: RunSpec) -> Callable[[], Any]:
    """16-bit training runs under autocast over float32 weights; scores are always taken in the weights' own dtype."""
    if spec.dtype not in ("bfloat16", "float16"):
        return nullcontext
    import torch

    return lambda: torch.autocast(spec.device.split(":")[0], dtype=getattr(torch, spec.dtype))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500]


def _claim_stdout() -> Emit:
    """Keep standard output for events; whatever else prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        # With the parent gone there is nobody to tell; the watcher on standard input ends the run.
        try:
            with lock:
                channel.write(json.dumps(event) + "\n")
        except BrokenPipeError:
            return

    return emit


def _read_line(descriptor: int) -> str:
    """One line, unbuffered: a buffered reader left blocking in a thread would abort the interpreter's exit."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1 << 16)
        if not byte:
            break
        line += byte
    return line.decode()


def _watch_for_stop() -> Stop:
    """True once the parent has asked for a stop (SIGTERM, SIGINT) or its pipe has ended.

    After the pipe's end the process lives for ORPHAN_GRACE_S at most; what is on disk is whole at any time.
    """
    asked = threading.Event()

    def on_signal(_number: int, _frame: object) -> None:
        asked.set()

    def read_to_end() -> None:
        while os.read(0, 4096):
            continue
        asked.set()
        time.sleep(ORPHAN_GRACE_S)
        os._exit(EXIT_INTERRUPTED)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    threading.Thread(target=read_to_end, daemon=True).start()
    return asked.is_set


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    # Taking torch apart at the interpreter's exit costs up to a second of CPU time that no phase would hold.
    os._exit(status)
