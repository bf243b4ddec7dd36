"""What is read of a pretrained model, and what is refused before anything is read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pretrained_factory import REASON, save

from lm_models.huggingface import files as model_files
from lm_models.huggingface import model as loading
from lm_models.huggingface.config import Config

GGUF = b"GGUF" + (3).to_bytes(4, "little") + (2).to_bytes(8, "little") * 2 + b"\x00" * 40


def folder_with(folder: Path, **changes: str | None) -> Path:
    """A folder that looks like a model; each change is a file's content, or None to leave it out."""
    content = {"config.json": "{}", "model.safetensors": "", "tokenizer.json": "{}"}
    for name, text in {**content, **{key.replace("__", "."): value for key, value in changes.items()}}.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config__json": None}, "the folder has no config.json, so it holds no model"),
        ({"config__json": "{"}, "config.json is not JSON"),
        ({"config__json": "[" * 200_000}, "config.json is nested too deeply"),
        ({"config__json": " " * (33 << 20)}, "larger than 33,554,432 bytes"),
        ({"tokenizer__json": None}, r"has no tokeniser \(tokenizer.json\)"),
        ({"model__safetensors": None}, "it has no weights; save the model as safetensors"),
        (
            {"model__safetensors": None, "pytorch_model__bin": "x"},
            r"its weights are a pickle \(pytorch_model.bin\), which can run code; save the model as safetensors",
        ),
        (
            {"config__json": json.dumps({"auto_map": {"AutoModelForCausalLM": "modeling.Mine"}})},
            r"asks for code of its own \(auto_map in config.json\), which is never run",
        ),
        ({"adapter_config__json": "{}"}, "holds an adapter of another model"),
    ],
)
def test_a_folder_that_is_incomplete_or_would_run_code_is_refused(
    tmp_path: Path, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        model_files.find(Config(path=str(folder_with(tmp_path, **changes))))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere", "nowhere: no such folder or GGUF file$"),
        ("org/name", "as a model's id on the hub it needs a revision, a commit of 40 digits"),
        ("package:no_such_package/x.gguf", "there is no installed package no_such_package"),
        ("package:os.path/x.gguf", "there is no installed package os.path"),
        ("package:json//etc/passwd", "the file must be inside the package"),
        ("package:json/../os.py", "the file must be inside the package"),
        (__file__, "is no GGUF file, nor a folder of safetensors"),
    ],
)
def test_a_path_that_names_no_model_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_files.find(Config(path=path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": ""}, "path must name a folder"),
        ({"revision": "main"}, "revision must be a commit of 40 hexadecimal digits, got 'main'"),
        ({"context": 0}, "context must be at least 1, got 0"),
        ({"context": 4, "stride": 5}, "stride of 5 is more than the context of 4"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{"path": "x", **settings})  # type: ignore[arg-type]


def test_a_file_of_an_installed_package_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package_with_a_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model.gguf").write_bytes(GGUF)
    monkeypatch.syspath_prepend(tmp_path)
    found = model_files.find(Config(path="package:package_with_a_model/model.gguf"))
    assert found.place == package / "model.gguf"
    assert "package_with_a_model" not in sys.modules


def test_a_changed_file_changes_the_checksum_and_a_moved_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    config = Config(path=str(folder_with(tmp_path / "a")))
    before = model_files.describe(config, model_files.find(config))
    moved = Config(path=str((tmp_path / "a").rename(tmp_path / "b")))
    assert model_files.describe(moved, model_files.find(moved))["sha256"] == before["sha256"]
    folder_with(tmp_path / "b", config__json='{"a": 1}')
    assert model_files.describe(moved, model_files.find(moved))["sha256"] != before["sha256"]


def test_a_model_of_the_hub_needs_the_network_or_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason=REASON)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    config = Config(path="org/name", revision="a" * 40)
    message = "org/name at revision aaaaaaaaaa is not here, and cannot be downloaded: the network is off"
    with pytest.raises(ValueError, match=message):
        model_files.find(config, offline=True)


def load_both(config: Config) -> None:
    files = model_files.find(config)
    loading.load_tokenizer(config, files)
    loading.load(config, files)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    path = save(tmp_path) / name
    path.write_bytes(path.read_bytes()[:100] + b"}")
    config = Config(path=str(tmp_path))
    with pytest.raises(ValueError, match=r"cannot be read: \w+|is not JSON") as caught:
        load_both(config)
    assert "\n" not in str(caught.value)


def test_a_damaged_gguf_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason=REASON)
    pytest.importorskip("transformers", reason=REASON)
    (tmp_path / "model.gguf").write_bytes(GGUF)
    config = Config(path=str(tmp_path / "model.gguf"))
    for load in (loading.load_tokenizer, loading.load):
        with pytest.raises(ValueError, match=r"model\.gguf: cannot be read: \w+") as caught:
            load(config, model_files.find(config))  # type: ignore[operator]
        assert "\n" not in str(caught.value)
