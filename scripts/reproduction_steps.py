"""What `reproduce.py` does, step by step: each is one command of the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PTB, BEYOND = "suites/ptb-char.yaml", "suites/search/ptb-char-beyond.yaml"


@dataclass(frozen=True)
class Probe:
    """A way to train that is tried for a few seconds before anything long is begun with it."""

    name: str
    entry: str
    dtype: str
    speed: Sequence[str] = ()
    seconds: float = 8.0
    backends: Mapping[str, str] = field(default_factory=dict)

    def command(self) -> list[str]:
        return [
            "bench", "loop", "--entry", self.entry, "--dtype", self.dtype, "--seconds", f"{self.seconds:g}",
            *_switches(self.speed, self.backends),
        ]  # fmt: skip


def _switches(speed: Sequence[str], backends: Mapping[str, str]) -> list[str]:
    """Options of `bench loop`."""
    found = [part for name in speed for part in ("--speed", name)]
    return found + [part for op, name in backends.items() for part in ("--backend", f"{op}={name}")]


@dataclass(frozen=True)
class Step:
    """One command. seconds: its time budget if it trains, what it is expected to take at most if not.

    probe: the full-size model of which a way to train is tried before this step takes it, if not that of PROBES.
    One that trains is planned into less where a lease has less, down to `shortest_s`.
    """

    name: str
    seconds: float
    arguments: tuple[str, ...]
    entry: str | None = None
    probe: str | None = None

    @property
    def trains(self) -> bool:
        return self.entry is not None

    @property
    def at_once(self) -> bool:
        """Whether it cannot be taken up halfway."""
        return not self.trains

    @property
    def shortest_s(self) -> float:
        """Half of its time, and SHORTEST_S at least: less would be a row of another kind."""
        return self.seconds if self.at_once else min(self.seconds, max(SHORTEST_S, self.seconds / 2))

    def command(self, settings: Mapping[str, Any] | None, budget_s: float | None = None) -> list[str]:
        """The command under the settings that the probes chose; without them, as it is given."""
        found = list(self.arguments)
        if self.trains:
            found += ["--time-budget", f"{budget_s or self.seconds:g}"]
        if settings is None:
            return found
        if self.trains:
            own = f"entries.{self.entry}"
            found += ["--set", f"{own}.dtype={settings['dtype']}"]
            found += [part for name in settings["speed"] for part in ("--set", f"{own}.speed.{name}=true")]
            backend = settings.get("backends", {}).get(OPS[str(self.entry)])
            found += ["--set", f"{own}.kernel={backend}"] if backend else []
            if "graph" in settings["speed"]:
                found += ["--set", f"{own}.recipe.windows.multiple={GRAPH_MULTIPLE}"]
        else:
            found += ["--dtype", str(settings["dtype"])]
            found += _switches(settings["speed"], settings.get("backends", {}))
        return found


OPS = {"awd-lstm": "lstm", "qrnn": "fo_pool"}
"""Entry -> the op that its `kernel` is a backend of."""

SHORTEST_S = 300.0
"""A training step is begun in what is left of a lease if that is so much."""

GRAPH_MULTIPLE = 8
"""What window lengths are rounded to where each is captured: their mean stays, and a dozen are captured, not sixty."""

LSTM, QRNN = "ptb-char-lstm-3x1000", "ptb-char-qrnn-6x1024"
PROBES: Mapping[str, Sequence[Probe]] = {
    "cuda": (
        Probe("float16-graph", LSTM, "float16", ("graph", "resident")),
        Probe("float16", LSTM, "float16", ("resident",)),
        Probe("bfloat16", LSTM, "bfloat16", ("folded_clip", "resident")),
        Probe("float32", LSTM, "float32"),
    ),
    "cpu": (Probe("float32", LSTM, "float32"),),
    "rehearsal": (
        Probe("float32", "tiny-lstm-1x16", "float32", seconds=0.5),
        Probe("float32-folded", "tiny-lstm-1x16", "float32", ("folded_clip",), seconds=0.5),
    ),
}


def _loop(name: str, seconds: float, entries: Sequence[str], *options: str) -> Step:
    chosen = [part for entry in entries for part in ("--entry", entry)]
    return Step(name, seconds, ("bench", "loop", *chosen, *options))


EVERY_FIFTH = ("recipe.validation.streams=128", "recipe.validation.warmup=150", "recipe.validation.every_epochs=5")
"""The official 10 streams are 39,000 steps one after the other for each epoch, which takes longer than training it."""


def full_steps(budgets: Mapping[str, float]) -> list[Step]:
    """At the paper's size: the LSTM row, the full-size models, the QRNN row, the ablations, and below the paper."""

    validated = tuple(part for value in EVERY_FIFTH for part in ("--set", value))

    def run(name: str, seconds: float, entry: str, probe: str | None = None) -> Step:
        return Step(name, budgets.get(name, seconds), ("run", PTB, "--only", entry, *validated), entry, probe)

    beyond = ("run", BEYOND, "--only", "awd-lstm")
    return [
        run("lstm-row", 800, "awd-lstm"),
        _loop("full-size", 160, ("enwik8-lstm-3x1840", "wikitext-103-qrnn-4x2500"), "--seconds", "20"),
        run("qrnn-row", 550, "qrnn", probe=QRNN),
        _loop("ablations", 400, (LSTM, QRNN), "--ablate", "--seconds", "5"),
        Step("beyond", budgets.get("beyond", 1500), beyond, "awd-lstm"),
    ]


SMALL = (
    "model.layers=1", "model.hidden=32", "model.embedding=16", "recipe.epochs=null", "recipe.decay_at=[]",
    "recipe.tokens=20_000_000", "recipe.batch=64", "recipe.bptt=50", "recipe.validation.streams=256",
    "recipe.validation.every_tokens=5_000_000", "evaluation.protocols=[streams]", "evaluation.streams=256",
    "evaluation.warmup=50", "kernels=[]",
)  # fmt: skip


def rehearsal_steps(budgets: Mapping[str, float]) -> list[Step]:
    """The same steps at small size: minutes on a CPU, and nothing is learned from their numbers."""
    small = tuple(part for value in SMALL for part in ("--set", value))

    def run(name: str, suite: str, entry: str) -> Step:
        marked = (f"entries.{entry}.title=Rehearsal of {name}", f"entries.{entry}.published=null")
        own = tuple(part for value in marked for part in ("--set", value))
        return Step(name, budgets.get(name, 40), ("run", suite, "--only", entry, *own, *small), entry)

    return [
        run("lstm-row", PTB, "awd-lstm"),
        _loop("full-size", 20, ("tiny-lstm-1x16",), "--seconds", "0.5"),
        run("qrnn-row", PTB, "qrnn"),
        _loop("ablations", 40, ("tiny-lstm-1x16",), "--ablate", "--seconds", "0.5"),
        run("beyond", BEYOND, "awd-lstm"),
    ]
