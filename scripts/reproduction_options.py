"""The options of the reproduction, and what they ask of the machine before anything is begun."""

from __future__ import annotations

import argparse
from pathlib import Path

import reproduction_commands
import reproduction_needs


def parse(description: str, arguments: list[str] | None) -> argparse.Namespace:
    """The options as given; a rehearsal is on a CPU."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Penn Treebank's three files")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where records go (default: results)")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:INDEX or cpu (default: cuda)")
    parser.add_argument("--leg", type=float, help="seconds after which all is saved and ended; no limit without it")
    parser.add_argument("--lease", type=float, help="seconds of all legs; a step is begun if they hold it")
    parser.add_argument("--home", type=Path, help="folder for what is to be carried home")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that this machine lacks")
    parser.add_argument("--missing", action="store_true", help="print what is missing here, as pip reads it, and end")
    parser.add_argument("--only", action="append", metavar="STEP", help="this step only; may be repeated, in any order")
    parser.add_argument("--budget", action="append", default=[], metavar="STEP=SECONDS", help="time of a training step")
    parser.add_argument("--rehearse", action="store_true", help="all of it at small size on a CPU")
    parser.add_argument("--list", action="store_true", help="say what would be done")
    options = parser.parse_args(arguments)
    if options.rehearse:
        options.device = "cpu"
    return options


def environment(options: argparse.Namespace, root: Path) -> dict[str, str]:
    """That of every command. Raises SystemExit with what the machine lacks, before anything is begun."""
    site = (options.results / "site").resolve()
    found = reproduction_commands.environment_of(root, site, options.wheels)
    for_tests = reproduction_needs.missing(reproduction_needs.of_tests(), found)
    on_cuda = options.device.startswith("cuda")
    lacking = reproduction_needs.missing(reproduction_needs.of_steps(on_cuda=on_cuda), found)
    if options.missing:
        print("\n".join([*lacking, *for_tests]))
        raise SystemExit(0)
    tools = reproduction_needs.compiler_missing() if on_cuda else []
    if lacking or tools:
        raise SystemExit(f"missing here: {' '.join([*lacking, *tools])}; --wheels DIR takes packages from files")
    if for_tests and on_cuda:
        print(f"missing for the tests: {' '.join(for_tests)}; what they would prove stays unproven", flush=True)
    return found
