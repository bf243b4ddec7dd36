"""Run as a program: opens the GPU sensors on the libnvidia-ml.so.1 that is found first, and reads them by a script.

Standard input: a list of jobs {script, uuid, times, clock}; standard output: per job {nvml, gpm}, each {details,
rows} or {unavailable}, and `lost` where the sensor stopped answering. Times are those of the script's clock.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.monitoring.sensors import gpm, nvml
from harness.monitoring.sensors.base import SensorLost, SensorUnavailable, Target
from harness.monitoring.sensors.tree import ProcessTree

SENSORS = {"nvml": nvml.Nvml, "gpm": gpm.Gpm}


def play(job: dict[str, Any], name: str) -> dict[str, Any]:
    Path(job["clock"]).write_text("0")
    sensor = SENSORS[name]()
    try:
        details = sensor.open(Target(ProcessTree(os.getpid()), job["uuid"]))
    except SensorUnavailable as reason:
        return {"unavailable": str(reason)}
    found: dict[str, Any] = {"details": details, "rows": []}
    for time_s in job["times"]:
        Path(job["clock"]).write_text(repr(time_s))
        try:
            reading = sensor.read()
        except SensorLost as reason:
            found["lost"] = str(reason)
            break
        found["rows"].append({"values": reading.values, "reasons": reading.reasons})
    sensor.close()
    return found


def main() -> None:
    # The script's clock is not the system's: every reading is due.
    gpm.LEAST_S = nvml.PROCESSES_S = 0.0
    answers = []
    for job in json.load(sys.stdin):
        nvml.numbered_apart = lambda job=job: job.get("apart", False)
        Path(os.environ["NVML_STUB_SCRIPT"]).write_text(job["script"].replace("SELF", str(os.getpid())))
        answers.append({name: play(job, name) for name in SENSORS})
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
