"""Reproduce the paper's Penn Treebank rows in legs of a few minutes on a borrowed machine.

    python scripts/reproduce.py --data DIR --device cuda --leg 590 --home OUT
    python scripts/reproduce.py --data DIR --rehearse        # all of it at small size, on a CPU

Standard library alone, so that it starts on a bare machine: `--missing` says what that lacks, and `--wheels DIR`
installs it from files, into a folder of its own. Every step is a `harness` command. What is done is written to
RESULTS/reproduction.json after each one, and the same command goes on from there. A step that fails is tried once more,
in the next-best way to train.
`--home` gathers records, curves, plans and logs into one archive, draws the curves where matplotlib is there, and takes
the newest run's best weights in 16-bit shards of at most 15 MiB.

Exit status: 0 all steps are done, 1 a step failed (the others were tried), 3 the lease holds none of the steps that are
left, 130 the leg is over.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import reproduction_commands
import reproduction_home
import reproduction_options
import reproduction_tests
import reproduction_ways
from reproduction_commands import GRACE_S, TRAINING_GRACE_S
from reproduction_steps import PROBES, Probe, Step, full_steps, rehearsal_steps

ROOT = Path(__file__).resolve().parent.parent
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NO_ROOM, EXIT_INTERRUPTED = 1, 2, 3, 130
PACKING_S = 15.0
"""Kept at a leg's end for exporting weights and packing records."""

LEAST_S, REHEARSAL_LEAST_S = 120.0, 30.0
"""A training step is not begun with less than this left of the leg: starting, the longest scoring and saving."""

SHORT = 0.9
"""A step refused with less than this share of the leg left may have been refused for that: it is tried in the next."""

PLANNED = 0.97
"""Of what a lease has left, where a run is planned into it: one that overran the lease would be lost."""

TRIES = 2
UNKNOWN = {"status": "waiting", "seconds": 0.0, "legs": 0, "failures": 0, "way": None, "budget_s": None}
PROBE_S = 240.0
"""What a probe may take before it is ended; no step is ended sooner."""


class Reproduction:
    """The steps, what is known of them, and the time there is."""

    def __init__(self, options: argparse.Namespace, steps: list[Step]) -> None:
        self.options, self.steps = options, steps
        self.results: Path = options.results
        self.began = time.monotonic()
        # Within the leg even where a device hangs: until the run and its worker are ended.
        hangs_s = TRAINING_GRACE_S if options.device.startswith("cuda") else 0.0
        self.ends = self.began + options.leg - hangs_s if options.leg else float("inf")
        self.least_s = REHEARSAL_LEAST_S if options.rehearse else LEAST_S
        self.state_file = self.results / "reproduction.json"
        self.state: dict[str, Any] = {"spent_s": 0.0, "tests": None, "tried": None, "ways": [], "steps": {}}
        self.state |= reproduction_tests.consequences({})
        if self.state_file.is_file():
            self.state.update(json.loads(self.state_file.read_text(encoding="utf-8")))
        self.spent_before: float = self.state["spent_s"]
        self.whole_s = self.left_s()
        self._check_leg()
        self.ends = min(self.ends, self.began + self.lease_left_s())
        self.environment = reproduction_options.environment(options, ROOT)

    def run(self) -> int:
        """All steps in order, as far as the leg goes. Returns the exit status."""
        self._choose_ways()
        over, no_room = False, []
        for step in self.steps:
            known = self.state["steps"].setdefault(step.name, {**UNKNOWN})
            while known["status"] not in ("done", "failed"):
                if not self._has_room(step, known):
                    no_room.append(step.name)
                    break
                over = self.left_s() < (step.seconds if step.at_once else self.least_s)
                if over:
                    break
                known["status"] = self._run_step(step, known)
                self._keep()
                print(f"{step.name}: {known['status']} after {known['seconds']:,.0f} s", flush=True)
                over = known["status"] == "interrupted"
                if over:
                    break
            if over:
                break
        if self.options.home:
            self._pack(self.options.home)
        self._keep()
        return self._farewell(over, no_room)

    def _farewell(self, over: bool, no_room: list[str]) -> int:
        if over:
            print(f"the leg is over; the same command goes on from {self.state_file}", flush=True)
            return EXIT_INTERRUPTED
        if any(row["status"] == "failed" for row in self.state["steps"].values()):
            return EXIT_FAILED
        if no_room:
            print(f"the lease has {self.lease_left_s():,.0f} s left, too few for {', '.join(no_room)}", flush=True)
            return EXIT_NO_ROOM
        return 0

    def left_s(self) -> float:
        """Seconds of this leg for steps."""
        return self.ends - time.monotonic() - (PACKING_S if self.options.home else 0.0)

    def lease_left_s(self) -> float:
        """Seconds of all legs together, waiting between them not counted."""
        return float(self.options.lease or "inf") - self._spent_s()

    def _spent_s(self) -> float:
        return self.spent_before + time.monotonic() - self.began

    def _has_room(self, step: Step, known: dict[str, Any]) -> bool:
        """Whether the lease holds the step or, of one that is under way, a piece of it."""
        if known["status"] == "interrupted":
            return self._room_s() >= self.least_s
        probed = step.probe is None or known["way"] is not None
        probe_s = 0.0 if probed else max((way.get("seconds", 0.0) for way in self.state["tried"]), default=0.0)
        return self._room_s() - probe_s >= step.shortest_s

    def _room_s(self) -> float:
        return self.lease_left_s() - (PACKING_S if self.options.home else 0.0)

    def _check_leg(self) -> None:
        """Refuse a leg that would come back to the same step forever."""
        for step in self.steps:
            least_s = step.seconds if step.at_once else self.least_s
            if self.whole_s <= least_s:
                raise SystemExit(f"a leg of {self.options.leg:g} s is too short for {step.name}: {least_s:g} s")

    def _run_step(self, step: Step, known: dict[str, Any]) -> str:
        if known["way"] is None:
            known["way"] = self._first_way(step)
        way = self.state["ways"][min(known["way"], len(self.state["ways"]) - 1)]
        if step.trains and known["budget_s"] is None:
            room_s = self._room_s()
            known["budget_s"] = step.seconds if room_s >= step.seconds else float(int(PLANNED * room_s))
        command = [*step.command(way, known["budget_s"]), "--results", str(self.results)]
        command += ["--device", self.options.device]
        left_s = self.left_s()
        known["legs"] += 1
        rows = self.results / "logs" / f"{step.name}-{known['legs']}.json"
        if step.at_once:
            command += ["--json", str(rows)]
        else:
            command += ["--data", str(self.options.data)]
            command += ["--leg", f"{left_s:.0f}"] if left_s < float("inf") else []
        known["command"] = command
        started = time.monotonic()
        code = self._harness(command, f"{step.name}.log", min(left_s, max(2 * step.seconds, PROBE_S)))
        known["seconds"] += time.monotonic() - started
        if step.at_once:
            known["variants"] = reproduction_ways.variants(rows)
        return self._outcome(step, known, code, late=left_s < SHORT * self.whole_s)

    def _outcome(self, step: Step, known: dict[str, Any], code: int, *, late: bool) -> str:
        """The status that follows from a command's exit status. late: begun with less than a whole leg."""
        if step.trains and (code == EXIT_INTERRUPTED or (code == EXIT_BAD_INPUT and late)):
            return "interrupted"
        # A benchmark with some rows is worth more than the same once more in a slower way; the others are named.
        if code == 0 or (step.at_once and code == EXIT_FAILED and known["variants"]["ok"]):
            return "done"
        known["failures"] += 1
        known["way"] += 1
        known["budget_s"] = None
        return "failed" if known["failures"] >= TRIES else "waiting"

    def _choose_ways(self) -> None:
        """The ways to train that work here, the fastest first: each is timed on a full-size model for a few seconds."""
        kind = "rehearsal" if self.options.rehearse else self.options.device.split(":")[0]
        if self.state["tests"] is None:
            logs = self.results / "logs"
            tests = reproduction_tests.prove(self._test, logs, time.monotonic) if kind == "cuda" else {}
            self.state |= {"tests": tests, **reproduction_tests.consequences(tests)}
            self._keep()
            said = ", ".join(f"{name} {each['outcome']}" for name, each in tests.items())
            for line in (f"tests on this device: {said or 'needless'}", *self.state["loud"]):
                print(line, flush=True)
        if self.state["tried"] is None:
            tried = [self._probe(probe) for probe in PROBES[kind]]
            self.state["ways"] = reproduction_ways.in_order(tried, self.state["barred"])
            self.state["tried"] = tried
            self._keep()
        if not self.state["ways"]:
            raise SystemExit(f"no way to train works on {self.options.device}: see {self.results / 'logs'}")

    def _test(self, command: Sequence[str], limit_s: float) -> int:
        return self._watched(command, "tests.log", limit_s)

    def _probe(self, probe: Probe) -> dict[str, Any]:
        backends, began = self.state["instead"], time.monotonic()
        rows = self.results / "logs" / f"probe-{probe.name}.json"
        rows.unlink(missing_ok=True)
        command = [*replace(probe, backends=backends).command(), "--json", str(rows)]
        command += ["--results", str(self.results), "--device", self.options.device]
        if not set(probe.speed) & set(self.state["barred"]):
            self._harness(command, f"probe-{probe.name}.log", PROBE_S)
        told = reproduction_ways.read(rows)
        rate = told["tokens_per_s"]
        print(f"probe {probe.name}: {'failed' if rate is None else f'{rate:,.0f} tokens/s'}", flush=True)
        unproven = [name for name in self.state["unproven"] if name in probe.speed]
        return {"name": probe.name, "dtype": probe.dtype, "speed": list(probe.speed), "backends": backends,
                "unproven": unproven, "seconds": time.monotonic() - began, **told}  # fmt: skip

    def _first_way(self, step: Step) -> int:
        """The fastest way that the step's own model can be trained in; the last one is taken untried."""
        ways = self.state["ways"]
        if step.probe is None:
            return 0
        loss = next((way["nll_per_token"] for way in self.state["tried"] if way["name"] == "float32"), None)
        for place, way in enumerate(ways[:-1]):
            found = self._probe(Probe(f"{step.name}-{way['name']}", step.probe, way["dtype"], way["speed"]))
            wrong = reproduction_ways.apart(found["nll_per_token"], loss, reproduction_ways.OTHER_MODEL_TOLERANCE)
            if found["tokens_per_s"] is not None and not wrong:
                return place
        return len(ways) - 1

    def _harness(self, arguments: Sequence[str], log: str, limit_s: float) -> int:
        return self._watched([sys.executable, "-P", "-m", "harness.cli", *arguments], log, limit_s)

    def _watched(self, command: Sequence[str], log: str, limit_s: float) -> int:
        """One command within its limit and the leg. Tests are run where they lie."""
        limit_s = min(limit_s, max(1.0, self.ends - time.monotonic()))
        return reproduction_commands.watched(
            command, self.results / "logs" / log, limit_s, self.environment,
            folder=ROOT if "pytest" in command else None, grace_s=TRAINING_GRACE_S if "run" in command else GRACE_S,
        )  # fmt: skip

    def _keep(self) -> None:
        self.state["spent_s"] = self._spent_s()
        self.results.mkdir(parents=True, exist_ok=True)
        partial = self.state_file.with_suffix(".partial")
        partial.write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.state_file)

    def _pack(self, home: Path) -> None:
        def harness(arguments: Sequence[str]) -> int:
            if time.monotonic() >= self.ends:
                return EXIT_INTERRUPTED
            return self._harness(arguments, f"{arguments[0]}.log", PROBE_S)

        reproduction_home.pack(self.results, home, harness, weights=not self.options.rehearse)
        print(f"packed into {home}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run or list the steps; see the module."""
    options = reproduction_options.parse(__doc__ or "", arguments)
    budgets = {name: float(value) for name, _, value in (text.partition("=") for text in options.budget)}
    every = rehearsal_steps(budgets) if options.rehearse else full_steps(budgets)
    by_name = {step.name: step for step in every}
    unknown = [name for name in (*(options.only or ()), *budgets) if name not in by_name]
    if unknown:
        raise SystemExit(f"there is no step {unknown[0]}; there are: {', '.join(by_name)}")
    steps = [by_name[name] for name in options.only] if options.only else every
    if options.list:
        for step in steps:
            print(f"{step.name} ({step.seconds:,.0f} s): harness {' '.join(step.command(None))}")
        return 0
    return Reproduction(options, steps).run()


if __name__ == "__main__":
    sys.exit(main())
