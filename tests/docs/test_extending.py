"""Each change that docs/extending.md shows: apply it to a copy of the code, count what it takes, and run it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pages import ROOT, blocks, run_script

COPIED = ("harness", "models", "kernels", "suites", "results/published.yaml", "pyproject.toml")


@dataclass(frozen=True)
class Addition:
    """A section of the page.

    Attributes:
        new: files that it adds, not counting empty ones.
        lines: lines that it adds to each file that exists.
        output: patterns that its commands print.
    """

    new: int
    lines: dict[str, int]
    output: tuple[str, ...]


ADDITIONS = {
    "A metric": Addition(
        new=0,
        lines={"harness/core/metrics.py": 9},
        output=(r"\| nats +\| Nats per Token", r"Nats per Token +\| +1\.6", r"pass.*nats|nats.*pass"),
    ),
    "A sensor with its column": Addition(
        new=1,
        lines={"harness/monitoring/sensors/registry.py": 1, "harness/monitoring/costs/columns.py": 2},
        output=(r"ok +sensor threads", r"\| Model .*\| +Threads \|", r"True conditional.* [1-9]\d* \|"),
    ),
    "A dataset": Addition(
        new=1, lines={"harness/data/registry.py": 1}, output=(r'"train": \{"tokens": 88894', r"numbers.*prepared")
    ),
    "A model": Addition(
        new=2,
        lines={"models/lm_models/__init__.py": 1},
        output=(
            r"\| elman +\| One recurrent layer",
            r"Elman network .* 2376 .*exact",
            r"Elman network \+ neural cache",
        ),
    ),
    "A table format": Addition(
        new=1,
        lines={"harness/report/formats/__init__.py": 1},
        output=(r"^Model\tValue\tParams$", r"^True conditional.*\t\d\.\d+\t0$"),
    ),
}


def sections() -> dict[str, str]:
    """Heading -> text of each section."""
    parts = re.split(r"^## (.+)\n", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_section_with_a_diff_is_tried() -> None:
    shown = {name for name, text in sections().items() if any(block.language == "diff" for block in blocks(text))}
    assert shown == set(ADDITIONS)


@pytest.mark.parametrize("name", ADDITIONS)
def test_a_change_applies_runs_and_takes_what_the_page_says(name: str, tmp_path: Path) -> None:
    by_language = {block.language: block.text for block in blocks(sections()[name])}
    diff, expected = by_language["diff"], ADDITIONS[name]
    new, lines = cost(diff)
    assert (new, lines) == (expected.new, expected.lines)

    code, folder = tmp_path / "code", tmp_path / "folder"
    copy_code(code)
    folder.mkdir()
    (folder / "suites").symlink_to(code / "suites")
    apply(diff, code)
    output = run_script(by_language["sh"], folder, code)
    for pattern in expected.output:
        assert re.search(pattern, output, re.M), f"{pattern} is not in\n{output}"


def cost(diff: str) -> tuple[int, dict[str, int]]:
    """New files with content, and lines added to each file that exists. A diff must remove nothing."""
    new, lines = 0, {}
    for part in re.split(r"^diff --git ", diff, flags=re.M)[1:]:
        path = re.match(r"a/\S+ b/(\S+)", part)[1]  # type: ignore[index]
        body = part.partition("\n@@")[2].splitlines()
        assert not [line for line in body if line.startswith("-")]
        added = sum(line.startswith("+") for line in body)
        if "\nnew file mode" in part:
            new += added > 0
        else:
            lines[path] = added
    return new, lines


def copy_code(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target / name)  # with __pycache__, which spares compiling
        else:
            shutil.copy(source, target / name)


def apply(diff: str, code: Path) -> None:
    # Without its own repository, git would take the paths of one that surrounds the temporary folder.
    subprocess.run(["git", "init", "--quiet"], cwd=code, check=True)
    done = subprocess.run(["git", "apply", "-"], cwd=code, input=diff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
