"""Reproduce the paper's Penn Treebank rows in legs of a few minutes on a borrowed machine.

    python scripts/reproduce.py --data DIR --device cuda --leg 540 --home OUT
    python scripts/reproduce.py --data DIR --rehearse        # all of it at small size, on a CPU

Standard library alone, so that it starts on a bare machine: `--wheels DIR` installs what is missing from files, into a
folder of its own. Every step is a `harness` command. What is done is written to RESULTS/reproduction.json after each
one, and the same command goes on from there. `--home` gathers records, curves, plans and logs into one archive, and the
best weights in 16-bit shards of at most 15 MiB.

Exit status: 0 all steps are done, 1 a step failed (the others were tried), 130 the leg is over.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from reproduction_steps import PROBES, Step, full_steps, rehearsal_steps

ROOT = Path(__file__).resolve().parent.parent
EXIT_INTERRUPTED = 130
AT_HOME = ("reproduction.json", "LEADERBOARD.md", "plans", "bench", "logs", "runs")
NOT_AT_HOME = ("checkpoints", "calibration")
PACKING_S = 15.0
"""Kept at a leg's end for exporting weights and packing records."""

LEAST_S = 30.0
"""A training step is not begun with less than this left of the leg."""


class Reproduction:
    """The steps, what is known of them, and the time there is."""

    def __init__(self, options: argparse.Namespace, steps: list[Step]) -> None:
        self.options, self.steps = options, steps
        self.results: Path = options.results
        self.ends = time.monotonic() + options.leg if options.leg else float("inf")
        self.state_file = self.results / "reproduction.json"
        self.state: dict[str, Any] = {"settings": None, "steps": {}}
        if self.state_file.is_file():
            self.state = json.loads(self.state_file.read_text(encoding="utf-8"))
        self.environment = _environment(options)

    def run(self) -> int:
        """All steps in order, as far as the leg goes. Returns the exit status."""
        if self.state["settings"] is None:
            self.state["settings"] = self._choose_settings()
            self._keep()
        over = False
        for step in self.steps:
            known = self.state["steps"].setdefault(step.name, {"status": "waiting", "seconds": 0.0, "legs": 0})
            if known["status"] in ("done", "failed"):
                continue
            if self.left_s() < (step.seconds if step.at_once else LEAST_S):
                over = True
                break
            known["status"] = self._run_step(step, known)
            self._keep()
            print(f"{step.name}: {known['status']} after {known['seconds']:,.0f} s", flush=True)
            if known["status"] == "interrupted":
                over = True
                break
        if self.options.home:
            self._pack(self.options.home)
        if over:
            print(f"the leg is over; the same command goes on from {self.state_file}", flush=True)
            return EXIT_INTERRUPTED
        return 1 if any(row["status"] == "failed" for row in self.state["steps"].values()) else 0

    def left_s(self) -> float:
        return self.ends - time.monotonic() - (PACKING_S if self.options.home else 0.0)

    def _run_step(self, step: Step, known: dict[str, Any]) -> str:
        command = [
            *step.command(self.state["settings"]),
            "--results",
            str(self.results),
            "--device",
            self.options.device,
        ]
        if step.trains:
            command += ["--data", str(self.options.data)]
            if self.ends != float("inf"):
                command += ["--leg", f"{self.left_s():.0f}"]
        known["command"] = command
        known["legs"] += 1
        started = time.monotonic()
        code = self._harness(command, self.results / "logs" / f"{step.name}.log")
        known["seconds"] += time.monotonic() - started
        if code == EXIT_INTERRUPTED:
            return "interrupted"
        return "done" if code == 0 else "failed"

    def _choose_settings(self) -> dict[str, Any]:
        """The fastest way to train that works here: each candidate is timed on a full-size model for a few seconds."""
        found: list[dict[str, Any]] = []
        for probe in PROBES["rehearsal" if self.options.rehearse else self.options.device.split(":")[0]]:
            rows = self.results / "logs" / f"probe-{probe.name}.json"
            rows.unlink(missing_ok=True)
            command = [
                *probe.command(),
                "--json",
                str(rows),
                "--results",
                str(self.results),
                "--device",
                self.options.device,
            ]
            self._harness(command, self.results / "logs" / f"probe-{probe.name}.log")
            rate = _rate(rows)
            found.append({"name": probe.name, "dtype": probe.dtype, "speed": list(probe.speed), "tokens_per_s": rate})
            print(f"probe {probe.name}: {'failed' if rate is None else f'{rate:,.0f} tokens/s'}", flush=True)
        working = [row for row in found if row["tokens_per_s"] is not None]
        if not working:
            raise SystemExit(f"no way to train works on {self.options.device}: see {self.results / 'logs'}")
        best = max(working, key=lambda row: row["tokens_per_s"])
        return {**best, "tried": found}

    def _harness(self, arguments: list[str], log: Path) -> int:
        """One command of the harness; all it says goes to the log as well as here."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ harness {' '.join(arguments)}\n")
            file.flush()
            with subprocess.Popen(
                [sys.executable, "-P", "-m", "harness.cli", *arguments], stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace", env=self.environment,
            ) as process:  # fmt: skip
                assert process.stdout
                for line in process.stdout:
                    file.write(line)
                    print(f"  {line}", end="", flush=True)
            return process.returncode

    def _keep(self) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        partial = self.state_file.with_suffix(".partial")
        partial.write_text(json.dumps(self.state, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.state_file)

    def _pack(self, home: Path) -> None:
        """Records, curves, plans and logs as one archive; the best weights of what is finished as shards."""
        home.mkdir(parents=True, exist_ok=True)
        with tarfile.open(home / "records.tar.gz", "w:gz") as archive:
            for name in AT_HOME:
                if (self.results / name).exists():
                    archive.add(self.results / name, arcname=name, filter=_without_checkpoints)
        for run in sorted((self.results / "runs").glob("*/record.json")):
            out = home / run.parent.name
            best = run.parent / "checkpoints" / "best"
            if not self.options.rehearse and best.is_dir() and not out.exists():
                self._harness(["export", str(best), "--out", str(out)], self.results / "logs" / "export.log")
        print(f"packed into {home}", flush=True)


def _without_checkpoints(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if set(Path(member.name).parts) & set(NOT_AT_HOME) else member


def _rate(rows: Path) -> float | None:
    """Tokens per second of a probe, or None where it left none."""
    try:
        found = json.loads(rows.read_text(encoding="utf-8"))
        return float(found[0]["tokens_per_s"])
    except (OSError, ValueError, TypeError, LookupError):
        return None


def _environment(options: argparse.Namespace) -> dict[str, str]:
    """This checkout before anything installed; wheels, where given, unpacked once into a folder of the results."""
    chosen = {**os.environ, "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT)]
    if options.wheels:
        site = (options.results / "site").resolve()
        if not site.is_dir():
            wheels = sorted(str(path) for path in options.wheels.glob("*.whl"))
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
            subprocess.run([*command, *wheels], check=True)
        paths.append(str(site))
    chosen["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [chosen.get("PYTHONPATH")])])
    return chosen


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Penn Treebank's three files")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where records go (default: results)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:INDEX or cpu (default: cuda)")
    parser.add_argument("--leg", type=float, help="seconds after which all must be saved; no limit without it")
    parser.add_argument("--home", type=Path, help="folder for what is to be carried home")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that this machine lacks")
    parser.add_argument("--only", action="append", metavar="STEP", help="this step only; may be repeated, in any order")
    parser.add_argument("--budget", action="append", default=[], metavar="STEP=SECONDS", help="time of a training step")
    parser.add_argument("--rehearse", action="store_true", help="all of it at small size on a CPU")
    parser.add_argument("--list", action="store_true", help="say what would be done")
    options = parser.parse_args(arguments)
    if options.rehearse:
        options.device = "cpu"
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run or list the steps; see the module."""
    options = _parse(arguments)
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
