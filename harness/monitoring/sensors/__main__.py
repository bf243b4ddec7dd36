"""`python -m harness.monitoring.sensors UUID`: print which sensors work, as JSON. The child of `survey.probe`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from harness.monitoring.sensors.survey import read_all

if __name__ == "__main__":
    print(json.dumps({name: asdict(result) for name, result in read_all(sys.argv[1]).items()}), flush=True)
    os._exit(0)  # a thread that hangs in the driver would keep the process alive
