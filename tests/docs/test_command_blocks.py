"""Commands in the README and in docs/: each block is run, or says why not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from pages import NOT_RUN, ROOT, blocks, run_script

PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
APPLIED = "docs/extending.md"  # test_extending.py runs its blocks, each after its diff
COMMAND = re.compile(r"^(\S*/)?(harness|python3?|pip|pytest|git|srun|ruff|mypy)\b", re.M)


def test_commands_are_in_blocks_of_shell() -> None:
    for page in PAGES:
        for block in blocks((ROOT / page).read_text(encoding="utf-8")):
            assert block.language == "sh" or not COMMAND.search(block.text), f"{page}:{block.line}"


def test_a_block_that_is_not_run_has_a_reason() -> None:
    for page in PAGES:
        for block in blocks((ROOT / page).read_text(encoding="utf-8")):
            text = " ".join(f"{block.before} {block.text}".split())
            assert block.is_run or re.search(rf"{NOT_RUN}[:,] \S+ \S+", text), f"{page}:{block.line} gives no reason"


def test_the_readme_writes_only_what_git_ignores() -> None:
    assert "/out/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    text = "\n".join(block.text for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")))
    writes = re.findall(r"harness (?:run|search) .*|(?<=[^-]> )\S+", text)
    assert len(writes) >= 5
    assert all("--results out" in each or each.startswith("out/") for each in writes)


def script_of(page: str) -> str:
    """The shell blocks of a page; its Python blocks follow as one program."""
    shown = [block for block in blocks((ROOT / page).read_text(encoding="utf-8")) if block.is_run]
    text = {name: "\n".join(each.text for each in shown if each.language == name) for name in ("sh", "python")}
    return text["sh"] + (f"python - <<'PROGRAM'\n{text['python']}PROGRAM\n" if text["python"] else "")


# It trains three models twice. tests/models/plugin and tests/harness/commands/test_new.py hold its parts.
SLOW = ("docs/your-own-model.md",)
NEEDS = {"docs/audit.md": "constriction", "docs/compress.md": "constriction"}


@pytest.mark.long
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page in SLOW else ())
        for page in PAGES
        if page != APPLIED and script_of(page)
    ],
)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    """In their order, in one folder with the checkout's suites, records and README."""
    if page in NEEDS:
        pytest.importorskip(NEEDS[page], reason="an extra is not installed")
    for name in ("README.md", "suites", "results"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    run_script(script_of(page), tmp_path, ROOT)
