"""Check the `space` block of an entry: its keys, the conditions between them, and the ends of their ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.core.config.space import Parameter, as_text
from harness.core.errors import SuiteError
from harness.core.messages import near
from harness.suite.check import check, refusal
from harness.suite.merge import entries_of, merge
from harness.suite.yaml_reader import Member, Node, Where, parse_yaml, plain

# Of an entry: the other keys name, weigh or place its run.
SEARCHED = ("model", "recipe", "speed", "dtype", "kernel")


def check_space(root: Node, entry: str, check_suite: Callable[[Node], object]) -> Mapping[str, Parameter]:
    """Check that the `checked` values of every parameter make a valid suite; others hold those of the suite meanwhile.

    Args:
        root: the suite under a profile.
        entry: whose space it is.
        check_suite: raises SuiteError for a wrong suite.

    Returns:
        Its parameters by key.

    Raises:
        SuiteError: cites the line of the parameter in the space.
    """
    whole = entries_of(root)[entry].node.members["space"]
    space = check(whole.node, dict[str, Parameter], ("entries", entry, "space"), whole.where)
    members = whole.node.members
    for key, parameter in space.items():
        where = members[key].where
        path = f"entries.{entry}.space.{key}"
        if key.split(".")[0] not in SEARCHED:
            raise refusal(where, f"{path} cannot be searched: a search changes {', '.join(SEARCHED)}")
        if block := block_of(key, space):
            raise refusal(where, f"{path} is a key of {block}, which is searched as well: search one of them")
        conditions = _conditions(where, path, key, space)
        for text in parameter.checked:
            changed = root
            for name, value in {**conditions, key: text}.items():
                changed = merge(changed, _tree(("entries", entry, *name.split(".")), value, where))
            try:
                check_suite(changed)
            except SuiteError as error:
                raise SuiteError(f"{error} (in {path} at {text})") from None
    return space


def _conditions(where: Where, path: str, key: str, space: Mapping[str, Parameter]) -> dict[str, str]:
    """Values of the keys above that a key needs, and of those that these need, each the first one possible."""
    above = list(space)[: list(space).index(key)]
    found: dict[str, str] = {}
    for name in space[key].when:
        if name not in above:
            raise refusal(where, f"{path}.when '{name}' is no key of the space above this one.{near(name, above)}")
        for text in space[key].allowed(name):
            if not is_possible(space[name], text):
                raise refusal(where, f"{path}.when {name} is never {text}: it is one of {_in_words(space[name])}")
        found |= {**_conditions(where, path, name, space), name: space[key].allowed(name)[0]}
    return found


def block_of(key: str, names: Iterable[str]) -> str | None:
    """The name, if any, of a block that holds a key: a value of one would replace a value of the other."""
    return next((name for name in names if key.startswith(f"{name}.")), None)


def value_of(text: str) -> Any:
    """The value that `--set` reads from a text."""
    node = parse_yaml(text, "value", numbered=False)
    return None if node is None else plain(node)


def as_searched(text: str) -> str:
    """One text for all spellings of a value, such as 1e-3 and 0.001."""
    return as_text(value_of(text))


def is_possible(parameter: Parameter, text: str) -> bool:
    """Whether a choice or a range of whole numbers holds a value. No single real number is likely to be drawn."""
    if parameter.is_integer:
        low, high = parameter.bounds
        return text.lstrip("-").isdecimal() and low <= int(text) <= high
    return as_searched(text) in map(as_searched, parameter.texts)


def _in_words(parameter: Parameter) -> str:
    if parameter.texts:
        return ", ".join(parameter.texts)
    words = "whole numbers" if parameter.is_integer else "real numbers, which a condition cannot name,"
    return f"the {words} from {parameter.ends[0]} to {parameter.ends[1]}"


def _tree(keys: tuple[str, ...], text: str, where: Where) -> Node:
    # Cited by the line of the parameter, at any depth of a value.
    node = parse_yaml(text, str(where), numbered=False) or Node(where, None)
    for key in reversed(keys):
        node = Node(where, {key: Member(where, node)})
    return node
