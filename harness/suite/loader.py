"""Load a suite file under a profile as a checked `Suite`, and find the suites that come with the harness."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import data
from harness.core.config.as_json import as_json
from harness.core.errors import SuiteError
from harness.core.messages import near
from harness.core.specs import Entry, Suite
from harness.data import DatasetConfig, Registered
from harness.suite import rules
from harness.suite.blocks import DEFAULT_PROFILE, EntryBlock, SuiteBlock, is_name, name_rule
from harness.suite.check import check
from harness.suite.merge import apply_overrides, apply_profile
from harness.suite.yaml_reader import Member, Node, Where, read_yaml
from harness.system.source import data_folder
from lm_models.huggingface.config import Config as PretrainedConfig
from lm_models.plugin import loader as plugin_loader

if TYPE_CHECKING:
    from harness.core.config.space import Parameter

SUITES = data_folder("suites")


def suite_files() -> list[Path]:
    """The suites that come with the harness, by name."""
    return sorted(SUITES.glob("*.yaml"))


def suite_path(name: str) -> Path:
    """The file of a suite: a path, or the name of a suite that comes with the harness; SuiteError if neither."""
    given = Path(name)
    if given.exists():
        return given
    # `suites/NAME.yaml` works outside the checkout too.
    inside = given.name if given.parent == Path("suites") else f"{name}.yaml"
    if not given.is_absolute() and (SUITES / inside).is_file():
        return SUITES / inside
    known = [path.stem for path in suite_files()]
    matches = difflib.get_close_matches(given.stem, known, n=1)
    hint = f"Did you mean '{matches[0]}'?" if matches else f"Suites that come with the harness: {', '.join(known)}"
    raise SuiteError(f"{name}: there is no such file. {hint}")


def readable_suites() -> tuple[list[Suite], list[str]]:
    """The suites that come with the harness under each of their profiles, and one line for each unreadable file."""
    suites: list[Suite] = []
    problems = []
    for path in suite_files():
        try:
            suites += _profiles(read_yaml(path), path).values()
        except SuiteError as problem:
            problems.append(f"suite skipped: {problem}")
    return suites, problems


def load(path: str | Path, *, profile: str | None = None, overrides: Sequence[str] = ()) -> Suite:
    """Read and check a suite in all of its profiles. Loads no data.

    Args:
        path: the suite file.
        profile: a profile of the file; `full` if absent.
        overrides: `--set` options (`KEY=VALUE`), applied last.

    Returns:
        The suite under its profile.

    Raises:
        SuiteError: one line with file, line, dotted path, problem and near name.
    """
    path = Path(path)
    root = read_yaml(path)
    suites = _profiles(root, path)
    chosen = profile or DEFAULT_PROFILE
    if chosen not in suites:
        raise SuiteError(f"{path}: profile '{chosen}' is unknown.{near(chosen, suites)}")
    if not overrides:
        return suites[chosen]
    changed = apply_overrides(apply_profile(root, chosen), overrides)
    return _checked(changed, chosen, tuple(suites), path, f" (after --set {' --set '.join(overrides)})")


def _profiles(root: Node, path: Path) -> dict[str, Suite]:
    """The suite under each profile. All are checked, so that a mistake does not wait until somebody runs one."""
    names = _profile_names(root, path)
    suites = {}
    for name in names:
        note = "" if name == DEFAULT_PROFILE else f" (in profile {name})"
        suites[name] = _checked(apply_profile(root, name), name, names, path, note)
    return suites


def load_dataset(path: str | Path) -> tuple[dict[str, Any], Path]:
    """The dataset block of a file that needs no other key, and the folder its relative paths start from."""
    path = Path(path)
    return _block(rules.dataset_config(read_yaml(path))), path.parent


def dataset_named(name_or_suite: str) -> tuple[dict[str, Any], Path]:
    """A dataset block, from a registered name or a suite file, and the folder that its relative paths start from."""
    # A suite's name alone could also be a dataset's, so a suite is recognised by its ending.
    if Path(name_or_suite).suffix in (".yaml", ".yml"):
        return load_dataset(suite_path(name_or_suite))
    return {"name": name_or_suite}, Path.cwd()


def pretrained_config(path: str, overrides: Sequence[str]) -> PretrainedConfig:
    """The model block of `builder: hf` without a suite: its path, and its other keys as `--set` options.

    Raises:
        SuiteError: a key or value is wrong.
    """
    where = Where(f"hf:{path}")
    root = Node(where, {"path": Member(where, Node(where, path))})
    return check(apply_overrides(root, overrides), PretrainedConfig, ("model",))


def _profile_names(root: Node, path: Path) -> tuple[str, ...]:
    member = root.members.get("profiles")
    if member is None or member.node.value is None:
        return (DEFAULT_PROFILE,)
    if not isinstance(member.node.value, dict):
        raise SuiteError(f"{member.where}: profiles must be a block of names")
    for name, profile in member.node.value.items():
        if not is_name(name):
            raise SuiteError(f"{profile.where}: profiles {name_rule(name)}")
    return tuple(dict.fromkeys((DEFAULT_PROFILE, *member.node.value)))


def _checked(root: Node, profile: str, profiles: tuple[str, ...], path: Path, note: str) -> Suite:
    """One profile's view of the file as a Suite; an error ends with `note`."""
    try:
        block, dataset, configs = _check(root, path)
        spaces = {name: _space(root, name, path) for name, entry in block.entries.items() if entry.space is not None}
    except SuiteError as error:
        raise SuiteError(f"{error}{note}") from None
    return Suite(
        path=path,
        name=block.suite,
        task=block.task,
        profile=profile,
        profiles=profiles,
        dataset=_block(dataset),
        dataset_title=block.dataset_title or data.facts(dataset).title,
        metrics=block.metrics,
        evaluation=block.evaluation,
        seeds=block.seeds,
        entries=tuple(
            replace(_entry(name, entry, configs[name], block.audit), space=spaces.get(name, {}))
            for name, entry in block.entries.items()
        ),
        checkpoint_every_s=block.checkpoint_every_s,
        kernels=block.kernels,
    )


def _space(root: Node, entry: str, path: Path) -> Mapping[str, Parameter]:
    # Here, because a run of a suite without a space does not need it.
    from harness.suite.space import check_space

    return check_space(root, entry, lambda changed: _check(changed, path))


def _check(root: Node, path: Path) -> tuple[SuiteBlock, DatasetConfig, dict[str, Any]]:
    """The block of a suite, its dataset, and the config of each entry's model; SuiteError for the first mistake."""
    block = check(root, SuiteBlock, ())
    dataset = rules.dataset_config(root)
    rules.check_names(root, dataset)
    if any(":" in str(entry.model.get("builder")) for entry in block.entries.values()):
        plugin_loader.add_folder(path.parent)
    configs = {name: rules.model_config(root, name) for name in block.entries}
    for name, config in configs.items():
        rules.check_weights(root, name, block.entries[name], config, block.evaluation)
        rules.check_protocols(root, name, block.entries[name], block.evaluation)
        rules.check_compressor(root, name, block.entries[name], block.evaluation, dataset)
        rules.check_model_and_data(root, name, config, dataset)
    return block, dataset, configs


def _block(dataset: DatasetConfig) -> dict[str, Any]:
    """The dataset as JSON with its defaults; a registered one leaves out what does not apply to it."""
    return {**dataset.block()} if isinstance(dataset, Registered) else as_json(dataset)


def _entry(name: str, entry: EntryBlock, config: Any, audit: bool) -> Entry:
    return Entry(
        name=name,
        title=entry.title or name,
        # With defaults written out, a key that the file repeats or omits does not change the run id.
        model={"builder": entry.model["builder"], **as_json(config)},
        recipe=entry.recipe,
        checkpoint=entry.checkpoint,
        published=entry.published,
        dtype=entry.dtype,
        kernel=entry.kernel,
        speed=entry.speed,
        adaptive=entry.adaptive,
        audit=audit if entry.audit is None else entry.audit,
    )
