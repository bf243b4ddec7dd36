"""One flipped, cut or exchanged byte in every file, then every command that reads it: one line or no difference."""

from __future__ import annotations

import random

import pytest
from specimen import Answer, Specimen


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


EVERY = {"flip": 25, "cut": 25, "digit": 25}


@pytest.mark.parametrize(
    "kinds", [{"flip": 1}, pytest.param(EVERY, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])], ids=len
)
def test_a_damaged_byte_is_named_or_harmless(specimen: Specimen, kinds: dict[str, int]) -> None:
    found, sound = [], dict[str, Answer]()
    strikes = [f"{kind} {number}" for kind, num in kinds.items() for number in range(num)]
    with specimen.at_home():
        for path, whole in [(path, content) for path, content in specimen.files.items() if content]:
            for strike in strikes:
                content = damaged(strike.split()[0], whole, random.Random(f"20 {path.name} {strike}"))
                for name, reader in specimen.readers(path).items():
                    if name not in sound:
                        sound[name] = reader()
                        specimen.restore()
                        assert sound[name].fault() is None
                        assert sound[name].status == 0
                    path.write_bytes(content)  # for each: a command may set a damaged file aside
                    answer = reader()
                    specimen.restore()
                    if problem := answer.fault(sound[name], by_hand=specimen.by_hand(path)):
                        found.append(f"{path.relative_to(specimen.root)} {strike}: {name}: {problem}")
    if found:
        pytest.fail("\n".join(found), pytrace=False)
