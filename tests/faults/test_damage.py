"""One flipped, cut or exchanged byte in every file, then every command that reads it: one line or no difference."""

from __future__ import annotations

import json
import random
from itertools import product

import pytest
from specimen import Answer, Specimen

SEED = 20


def damaged(kind: str, content: bytes, rng: random.Random) -> bytes:
    """The content with one bit flipped, its end cut off, or one digit exchanged for another."""
    place = rng.randrange(len(content))
    if kind == "cut":
        return content[:place]
    if kind == "digit":
        place = rng.choice([place for place, byte in enumerate(content) if chr(byte).isdecimal()] or [place])
        byte = rng.choice([byte for byte in b"0123456789" if byte != content[place]])
    else:
        byte = content[place] ^ 1 << rng.randrange(8)
    return content[:place] + bytes([byte]) + content[place + 1 :]


def breaks_digest(sound: bytes, content: bytes) -> bool:
    """Whether a value is another one in a JSON file that carries a digest of itself."""
    try:
        before, after = json.loads(sound), json.loads(content)
    except ValueError:
        return False
    return isinstance(before, dict) and "digest" in before and before != after


@pytest.mark.parametrize(
    ("kinds", "number"), [(["flip"], 1), pytest.param(["flip", "cut", "digit"], 25, marks=pytest.mark.slow)]
)
def test_a_damaged_byte_is_named_or_harmless(specimen: Specimen, kinds: list[str], number: int) -> None:
    sound: dict[str, Answer] = {}
    found, files = [], [path for path, content in specimen.files.items() if content]
    with specimen.at_home():
        for path in files:
            for name, reader in specimen.readers(path).items():
                if name not in sound:
                    sound[name] = reader()
                    specimen.restore()
        assert all(answer.status == 0 and answer.crash is None for answer in sound.values()), sound
        for path, kind, each in product(files, kinds, range(number)):
            content = damaged(kind, specimen.files[path], random.Random(f"{SEED} {path.name} {kind} {each}"))
            for name, reader in specimen.readers(path).items():
                path.write_bytes(content)  # for each: a command may set a damaged file aside
                answer = reader()
                specimen.restore()
                problem = answer.fault(sound[name], by_hand=specimen.by_hand(path))
                # Even where no number of the output depends on it.
                if name in ("table", "verify") and not specimen.by_hand(path) and not answer.stderr:
                    problem = problem or ("is silent" if breaks_digest(specimen.files[path], content) else None)
                if problem:
                    found.append(f"{path.relative_to(specimen.root)} {kind} {each}: {name}: {problem}")
    print(f"{len(files) * len(kinds) * number} damages in {len(files)} files, {len(found)} faults")
    assert not found, "\n".join(found)
