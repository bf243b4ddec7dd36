"""Models from outside: found, parsed and named by their source, or refused in one line."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import lm_models
from harness.core.errors import SuiteError
from harness.suite.loader import load
from lm_models.plugin import source

MODEL = """
import torch
from torch import nn
import harness
from plugged_part import WIDTH


class Small(harness.Model):
    context = 4

    def __init__(self, vocab_size: int, width: int = WIDTH, bias: bool = True):
        super().__init__()
        if width == 102:
            raise SystemExit(0)
        if width > 100:
            raise RuntimeError("too wide")
        self.embedding = nn.Embedding(vocab_size, width)
        self.out = nn.Linear(width, vocab_size, bias=bias)

    def forward(self, tokens_TB, state):
        return torch.log_softmax(self.out(self.embedding(tokens_TB)), dim=-1), state


class NoModel:
    pass
"""
SUITE = """
suite: small
task: Language Modelling
dataset: ptb-char
metrics: [bpc]
entries:
  small:
    model: {builder: "plugged:Small", width: 3}
    recipe: {optimizer: adam, lr: 1e-2, batch: 2, bptt: 4, epochs: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    (tmp_path / "plugged.py").write_text(MODEL)
    (tmp_path / "plugged_part.py").write_text("WIDTH = 8\n")
    (tmp_path / "plugged_exit.py").write_text("import sys\n\nsys.exit(1)\n")
    (tmp_path / "plugged_end.py").write_text("from os import _exit\n\n_exit(0)\n")
    (tmp_path / "suite.yaml").write_text(SUITE)
    for name in ("plugged", "plugged_part"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    lm_models.plugin.loader.load.cache_clear()
    lm_models.plugin.loader.config_class.cache_clear()
    return tmp_path


def test_a_suite_names_a_class_of_its_folder(folder: Path) -> None:
    [entry] = load(folder / "suite.yaml").entries
    assert entry.model == {"builder": "plugged:Small", "width": 3, "bias": True}
    config = lm_models.config_class("plugged:Small")(width=3)
    assert config.num_parameters(50) == 50 * 3 + 3 * 50 + 50
    assert config.forward_flops_per_token(50) == 2 * 3 * 50
    adapter = lm_models.build("plugged:Small", config, vocab_size=50)
    assert adapter.context_of_targets == {"context": 4, "stride": 2}


def test_the_checksum_covers_every_file_that_it_imports(folder: Path) -> None:
    load(folder / "suite.yaml")
    first = lm_models.source_of("plugged:Small")
    assert first is not None
    assert (first["module"], first["version"]) == ("plugged", None)
    (folder / "unrelated.py").write_text("x = 1\n")
    assert source.checksum("plugged") == first["sha256"]
    (folder / "plugged_part.py").write_text("WIDTH = 9\n")
    assert source.checksum("plugged") != first["sha256"]
    assert lm_models.source_of("awd-lstm") is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "plugged:Small",
            "pluged:Small",
            "there is no module pluged; put its file into the suite's folder, or",
        ),
        ("plugged:Small", "plugged:Smal", "module plugged has no Smal"),
        ("plugged:Small", "plugged:NoModel", "plugged:NoModel is not a subclass of harness.Model"),
        ("width: 3", "widht: 3", "'widht' is unknown. Did you mean 'width'?"),
        ("width: 3", "width: wide", "width must be a whole number, got 'wide'"),
        ("width: 3", "width: 101", "Small cannot be built: RuntimeError: too wide"),
        ("width: 3", "width: 102", "Small cannot be built: RuntimeError: its code calls sys.exit(0)"),
        (
            "plugged:Small",
            "plugged_exit:Small",
            "module plugged_exit cannot be imported: RuntimeError: its code calls sys.exit(1)",
        ),
        (
            "plugged:Small",
            "plugged_end:Small",
            "module plugged_end cannot be imported: RuntimeError: its code calls os._exit(0)",
        ),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    (folder / "suite.yaml").write_text(SUITE.replace(old, new))
    with pytest.raises(SuiteError) as refused:
        load(folder / "suite.yaml")
    assert said in str(refused.value)
    assert str(refused.value).startswith((f"{folder / 'suite.yaml'}:7: ", f"{folder / 'suite.yaml'}:8: "))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("context = 4", "context = 0", "Small.context must be a whole number above 0, got 0"),
        ("context = 4", "context = '4'", "Small.context must be a whole number above 0, got '4'"),
        ("context = 4", "context, stride = 4, 5", "Small.stride of 5 is more than its context of 4"),
        ("context = 4", "context, stride = 4, 4", None),
        ("context = 4", "context = 1", None),
        ("context = 4", "stride = 4", None),
        ("bias: bool = True", "*bias", "its constructor takes *bias; name every setting"),
        ("bias: bool = True", "**bias", "its constructor takes *bias; name every setting"),
        ("width: int = WIDTH, bias: bool = True", "width, bias=True", "its setting width has no annotation"),
        ("width: int = WIDTH, bias: bool = True", "width: int, bias=True", None),
    ],
)
def test_a_model_has_typed_settings_and_a_context_of_whole_tokens(
    folder: Path, old: str, new: str, said: str | None
) -> None:
    assert MODEL.count(old) == 1
    (folder / "plugged.py").write_text(MODEL.replace(old, new))
    sys.path.insert(0, str(folder))

    def build() -> object:
        config = lm_models.config_class("plugged:Small")(width=3)
        assert config.bias is True
        return lm_models.build("plugged:Small", config, vocab_size=50)

    if said is None:
        build()
        return
    with pytest.raises(ValueError, match=re.escape(said)):
        build()


def test_the_files_of_a_model_are_those_that_its_imports_reach(tmp_path: Path) -> None:
    files = {
        "top/__init__.py": "from top.names import *",
        "top/names.py": "import os",
        "top/model.py": "from . import near\nfrom .deep.inner import value\nimport beside.part as part",
        "top/near.py": "",
        "top/deep/__init__.py": "",
        "top/deep/inner.py": "from ..up import x\nfrom ... import nothing",
        "top/up.py": "",
        "beside/__init__.py": "",
        "beside/part.py": "",
        "top/unused.py": "",
        "beside/unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    reached = source._closure(tmp_path / "top" / "model.py", tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in reached} == {n for n in files if "unused" not in n}


def test_a_model_that_changes_the_current_folder_does_not_move_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "plugged.py").write_text(
        "import os\n\nos.chdir('/')\n" + MODEL.replace("super()", "os.chdir('/'); super()")
    )
    load(Path("suite.yaml"))
    assert lm_models.config_class("plugged:Small")(width=3).forward_flops_per_token(50) == 300
    assert Path.cwd() == folder
