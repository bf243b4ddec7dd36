"""What a bare machine lacks is said before anything is begun, and comes from files."""

from __future__ import annotations

import importlib
import os
import re
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from harness.code import ROOT

NAME = "stand-in-of-nothing"


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("reproduction_needs")


def wheel(folder: Path, version: str = "1.0", tag: str = "py3-none-any") -> Path:
    """A package of one module."""
    stem = NAME.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{stem}.py", f"version = {version!r}\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def test_wheels_are_unpacked_without_a_network_once_for_each_set(room: ModuleType, tmp_path: Path) -> None:
    """An index that cannot be reached is never asked."""
    site, wheels = tmp_path / "site", tmp_path / "wheels"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    assert room.missing([f"{NAME}>=1,<2"], environment) == [f"{NAME}>=1,<2"]
    wheel(wheels)
    room.install(wheels, site)
    assert room.missing([f"{NAME}>=1,<2"], environment) == []
    made = (site / room.STAMP).stat().st_mtime_ns
    room.install(wheels, site)
    assert (site / room.STAMP).stat().st_mtime_ns == made
    wheel(wheels).unlink()
    wheel(wheels, "1.1")
    room.install(wheels, site)
    assert (site / "stand_in_of_nothing.py").read_text() == "version = '1.1'\n"


def test_an_interrupted_unpacking_is_begun_again(room: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    wheel(tmp_path / "wheels")
    room.install(tmp_path / "wheels", tmp_path / "site")
    assert (tmp_path / "site" / "stand_in_of_nothing.py").is_file()


def test_wheels_that_are_not_there_or_do_not_fit_are_one_line(room: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="empty holds no wheels"):
        room.install(tmp_path / "empty", tmp_path / "site")
    wheel(tmp_path / "other", tag="cp27-cp27m-win32")
    with pytest.raises(SystemExit, match="is not a supported wheel on this platform"):
        room.install(tmp_path / "other", tmp_path / "site")


def test_a_module_without_a_distribution_is_there_too(
    room: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pynvml.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(room.metadata, "distribution", lambda name: (_ for _ in ()).throw(ModuleNotFoundError))
    monkeypatch.setattr(room.metadata, "PackageNotFoundError", ModuleNotFoundError)
    found = {name: room._is_here(name) for name in ("nvidia-ml-py", "no-such-thing", "no.such.thing")}
    assert found == {"nvidia-ml-py": True, "no-such-thing": False, "no.such.thing": False}


def test_what_is_missing_stops_the_script_before_anything_is_begun(
    room: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("reproduce")
    absent = {"pydantic", "hypothesis"}
    monkeypatch.setattr(room, "missing", lambda wanted, _: [each for each in wanted if room.name_of(each) in absent])
    monkeypatch.setattr(room, "compiler_missing", lambda: ["gcc or clang"])
    options = ["--data", "d", "--results", str(tmp_path / "r")]
    with pytest.raises(SystemExit, match=r"missing here: pydantic>=2.*<3 gcc or clang; --wheels DIR takes"):
        script.main([*options, "--device", "cuda"])
    with pytest.raises(SystemExit, match=r"missing here: pydantic>=2\.\d+,<3; --wheels"):
        script.main([*options, "--rehearse"])
    with pytest.raises(SystemExit) as ended:
        script.main([*options, "--missing"])
    assert ended.value.code == 0
    assert [room.name_of(line) for line in capsys.readouterr().out.splitlines()] == ["pydantic", "hypothesis"]
    assert not (tmp_path / "r").exists()


def test_a_compiler_that_is_named_or_found_will_do(room: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(room.shutil, "which", lambda name: None)
    assert "gcc or clang" in room.compiler_missing()
    monkeypatch.setattr(room.shutil, "which", lambda name: "/clang" if name == "clang" else None)
    assert "gcc or clang" not in room.compiler_missing()


def test_the_list_is_the_projects_own_and_what_is_left_out_no_step_imports(room: ModuleType) -> None:
    named = {room.name_of(each) for each in room.of_steps(on_cuda=True)}
    assert {"torch", "pydantic", "ruamel.yaml", "psutil", "filelock", "triton"} <= named
    importing = {
        module: {path.relative_to(ROOT).as_posix() for path in (ROOT / "harness").rglob("*.py")
                 if re.search(rf"^\s*(import|from) {module}\b", path.read_text(encoding="utf-8"), re.MULTILINE)}
        for module in room.NOT_FOR_THESE
    }  # fmt: skip
    assert importing == {"httpx": {"harness/data/fetch.py"}, "pyarrow": {"harness/data/words.py"}}
    assert not named & set(room.NOT_FOR_THESE)


def test_the_page_names_every_package(room: ModuleType) -> None:
    """Either as one that such a machine has, or as one that is fetched for it."""
    page = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
    [there] = re.findall(r"commonly has ([^;]*);\s+then these are missing", page)
    [fetched] = re.findall(r"-d wheels ((?:[^`]|\n)*?)\n```", page)
    names = {*re.findall(r"`([^`]+)`", there), *fetched.replace("\\", " ").split()}
    wanted = {room.name_of(each) for each in (*room.of_steps(on_cuda=True), *room.of_tests())}
    assert wanted == names
