"""One flipped, cut or exchanged byte in every file, then every command that reads it: one line or no difference."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from specimen import Answer, Specimen

SEED = 20
KINDS = ("flip", "cut", "digit")
NUM_STRIKES = 25  # of each kind for each file in the slow run


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


def strike(specimen: Specimen, path: Path, kind: str, number: int, sound: dict[str, Answer]) -> list[str]:
    """Damage a file, ask every reader, restore; returns a line for each fault that was found."""
    rng = random.Random(f"{SEED} {path.name} {kind} {number}")
    content = damaged(kind, specimen.files[path], rng)
    found = []
    for name, reader in specimen.readers(path).items():
        path.write_bytes(content)  # for each: a command may set a damaged file aside
        answer = reader()
        specimen.restore()
        problem = answer.fault(sound.setdefault(name, answer), by_hand=specimen.by_hand(path))
        if problem:
            found.append(f"{path.relative_to(specimen.root)} {kind} {number}: {name}: {problem}")
    return found


def sound_answers(specimen: Specimen) -> dict[str, Answer]:
    answers = {}
    for path in (specimen.suite, specimen.run / "record.json", specimen.best / "checkpoint.json", specimen.cache / "x"):
        for name, reader in specimen.readers(path).items():
            if name not in answers:
                answers[name] = reader()
                specimen.restore()
    assert all(answer.status == 0 and answer.crash is None for answer in answers.values()), answers
    return answers


def campaign(specimen: Specimen, kinds: dict[str, int]) -> tuple[Counter[str], list[str]]:
    """Strike every file; returns how often, and a line for each fault."""
    num_strikes, found = Counter[str](), []
    with specimen.at_home():
        sound = sound_answers(specimen)
        for path in [path for path, content in specimen.files.items() if content]:
            for kind, number in kinds.items():
                for each in range(number):
                    found += strike(specimen, path, kind, each, sound)
                    num_strikes[kind] += 1
    return num_strikes, found


def test_a_damaged_byte_is_named_or_harmless(specimen: Specimen) -> None:
    _, found = campaign(specimen, {"flip": 1})
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_many_damaged_bytes_are_named_or_harmless(specimen: Specimen, capsys: pytest.CaptureFixture[str]) -> None:
    num_strikes, found = campaign(specimen, dict.fromkeys(KINDS, NUM_STRIKES))
    with capsys.disabled():
        print(f"\ndamage: {dict(num_strikes)}; {len(found)} faults")
    if found:
        pytest.fail("\n".join(found), pytrace=False)
