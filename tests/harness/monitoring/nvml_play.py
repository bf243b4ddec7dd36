"""Run as a program: open the GPU sensors on the libnvidia-ml.so.1 that is found first, and read them by a script.

Standard input: a list of jobs {script, uuid, times, clock}; standard output: per job {nvml, gpm}, each {details,
rows} or {unavailable}, and `lost` if the sensor stopped answering. Times are those of the script's clock.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.monitoring.sensors import ProcessTree, SensorLost, SensorUnavailable, Target, gpm, nvml

SENSORS = {"nvml": nvml.Nvml, "gpm": gpm.Gpm}


def play(job: dict[str, Any], name: str) -> dict[str, Any]:
    Path(job["clock"]).write_text("0")
    sensor = SENSORS[name]()
    try:
        details = sensor.open(Target(ProcessTree(os.getpid()), job["uuid"]))
    except SensorUnavailable as reason:
        return {"unavailable": str(reason)}
    answer: dict[str, Any] = {"details": details, "rows": []}
    for time_s in job["times"]:
        Path(job["clock"]).write_text(repr(time_s))
        try:
            reading = sensor.read()
        except SensorLost as reason:
            answer["lost"] = str(reason)
            break
        answer["rows"].append({"values": reading.values, "reasons": reading.reasons})
    sensor.close()
    return answer


def main() -> None:
    # The script's clock is not the system's: every reading is due.
    gpm.MIN_SPAN_S = nvml.PROCESSES_S = 0.0
    answers = []
    for job in json.load(sys.stdin):
        nvml.may_be_foreign_ids = lambda job=job: job.get("foreign_ids", False)
        Path(os.environ["NVML_STUB_SCRIPT"]).write_text(job["script"].replace("SELF", str(os.getpid())))
        answers.append({name: play(job, name) for name in SENSORS})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
