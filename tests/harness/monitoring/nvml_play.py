"""Run as a program: open the GPU sensors on the libnvidia-ml.so.1 that is found first, and read them by a script.

Standard input: a list of jobs {script, uuid, times, clock, broken}; standard output: per job {nvml, gpm}, each
{details, rows} or {unavailable}, and `lost` if the sensor stopped answering. Times are those of the script's clock.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pynvml

from harness.monitoring.sensors import ProcessTree, Target, gpm, nvml
from harness.monitoring.sensors.base import SensorLost, SensorUnavailable

SENSORS = {"nvml": nvml.Nvml, "gpm": gpm.Gpm}


def broken(*_: Any) -> Any:
    raise ValueError("no such format")


def play(job: dict[str, Any], name: str) -> dict[str, Any]:
    clock = Path(job["clock"])
    for function in job.get("broken", ()):
        setattr(pynvml, function, broken)
    clock.write_text("0")
    sensor = SENSORS[name]()
    try:
        answer: dict[str, Any] = {"details": sensor.open(Target(ProcessTree(os.getpid()), job["uuid"])), "rows": []}
    except SensorUnavailable as reason:
        return {"unavailable": str(reason)}
    try:
        for time_s in job["times"]:
            clock.write_text(repr(time_s))
            reading = sensor.read()
            answer["rows"].append({"values": reading.values, "reasons": reading.reasons})
    except SensorLost as reason:
        answer["lost"] = str(reason)
    sensor.close()
    return answer


# The script's clock is not the system's: every reading is due.
gpm.MIN_SPAN_S = nvml.PROCESSES_S = 0.0
answers = []
for job in json.load(sys.stdin):
    nvml.may_be_foreign_ids = lambda job=job: job.get("foreign_ids", False)
    Path(os.environ["NVML_STUB_SCRIPT"]).write_text(
        job["script"].replace("SELF", str(os.getpid())), errors="surrogateescape"
    )
    answers.append({name: play(job, name) for name in SENSORS})
print(json.dumps(answers))
