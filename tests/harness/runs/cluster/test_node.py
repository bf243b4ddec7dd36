from __future__ import annotations

from pathlib import Path

from jobs import make_job, run_folder, run_here, without_times

from harness.results.store import Store
from harness.runs.cluster import folder_files
from harness.runs.cluster.node import Answer, Message, Outbox, run_job
from harness.worker import execute
from harness.worker.job import EXIT_RESUME, RecordWritten, Scoring, Validation


def test_a_job_on_a_node_gives_the_record_and_the_files_of_a_job_here(tmp_path: Path) -> None:
    job = make_job(tmp_path, node="a node")
    here = Store(job.results)
    messages: list[Message] = []

    def post(message: Message) -> Answer:
        messages.append(message)
        for snapshot in message.snapshot or ():
            folder_files.write(run_folder(job), here.root, snapshot.files, snapshot.names)
        return Answer(stop=False, received=message.number)

    outcome = run_job(job, {}, post)
    assert outcome.ending.returncode == 0
    assert outcome.num_messages == len(messages) == messages[-1].number
    assert outcome.snapshot is not None
    folder_files.write(run_folder(job), here.root, outcome.snapshot.files, outcome.snapshot.names)
    assert outcome.record is not None
    here.write(outcome.record)
    events = [event for message in messages for event in message.events] + list(outcome.events)
    assert events[-1] == RecordWritten(status="finished", error=None)
    assert [row.node for row in outcome.record.attempts] == ["a node"]
    local = job.model_copy(update={"results": tmp_path / "local"})
    execute.write_record(run_here(local), Store(local.results))
    # The environment of this process is not that of a worker, and part of the machine.
    mine, other = (without_times(run_folder(each)) | {"machine": None} for each in (job, local))
    assert mine == other
    weights = [sorted(path.name for path in run_folder(each).glob("checkpoints/best/*")) for each in (job, local)]
    assert weights[0] == weights[1]


def test_a_job_that_is_to_stop_does_not_start(tmp_path: Path) -> None:
    outcome = run_job(make_job(tmp_path), {}, lambda message: Answer(stop=True, received=0))
    assert (outcome.ending.returncode, outcome.record) == (EXIT_RESUME, None)


def test_of_events_that_only_show_progress_the_newest_is_sent() -> None:
    box = Outbox()
    validation = Validation(epoch=1, step=1, tokens=64, value=1.0, is_best=True)
    progress = [Scoring(split="test", protocol="exact", done=done, total=3) for done in range(4)]
    for event in (*progress[:2], validation, *progress[2:]):
        box.add(event)
    assert box.take() == (progress[1], validation, progress[3])
    assert box.take() == ()
