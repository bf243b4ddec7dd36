"""One flipped, cut or exchanged byte in every file, then every command that reads it: one line or no difference."""

from __future__ import annotations

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
                problem = reader().fault(sound[name], by_hand=specimen.by_hand(path))
                specimen.restore()
                if problem:
                    found.append(f"{path.relative_to(specimen.root)} {kind} {each}: {name}: {problem}")
    print(f"{len(files) * len(kinds) * number} damages in {len(files)} files, {len(found)} faults")
    assert not found, "\n".join(found)
