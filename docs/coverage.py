"""Measure coverage and power: `OMP_NUM_THREADS=1 python docs/coverage.py [TABLE...]`, from the checkout's root.

Writes its tables into docs/statistics.md, in about 5 minutes of one core. Seeded: every run gives the same figures.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binomtest, norm, t
from tabulate import tabulate

from harness.core.metrics import metric_named
from harness.core.scores import Tally
from harness.evaluation.blocks import Blocks, Scored, rate_std_error
from harness.regression import calibrate, check
from harness.results.record import RunRecord
from harness.results.store import Store
from harness.statistics import intervals, paired, seeds
from harness.system.source import installed
from lm_models.markov import source

PAGE = Path("docs/statistics.md")
TRIES = 4000
RESAMPLES = 499
Array = np.ndarray


def main(names: list[str]) -> None:
    for name in names or TABLES:
        headers, rows = TABLES[name]()
        table = tabulate(rows, headers, tablefmt="github", disable_numparse=True)
        print(f"{name}\n{table}\n", flush=True)
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.S)
        PAGE.write_text(marked.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", PAGE.read_text()))


def percent(flags: list[bool] | Array) -> str:
    return f"{100 * np.mean(flags):.1f}"


# Coverage of one score


def methods(nats: Array, units: Array) -> Iterator[tuple[float, float]]:
    """Half-width in nats per unit of three intervals: independent blocks, the recorded error, this package."""
    rates = nats / units
    yield 1.96 * rates.std(ddof=1) / math.sqrt(len(rates)), nats.sum() / units.sum()
    size, total = int(units[0]), int(units.sum())
    scored = Scored(Tally(float(nats.sum()), total, total, 0), size, nats.tolist())
    yield 1.96 * rate_std_error(scored), nats.sum() / units.sum()
    estimate = intervals.rate(nats, units)
    yield estimate.interval()[1] - estimate.value, estimate.value


def coverage(texts: Array, units: Array, truth: float) -> list[str]:
    hits = [[abs(value - truth) <= half for half, value in methods(nats, units)] for nats in texts]
    return [percent(column) for column in np.array(hits).T]


def markov() -> tuple[list[str], list[list[str]]]:
    """The oracle on the source of suites/calibration.yaml: texts of its test split and of its quick profile's."""
    shape, num_texts, rng = (2, 16), 2000, np.random.default_rng(1)
    table = source.table(*shape, 0.2, 0)
    truth = source.entropy_rate_bits(table, *shape) * math.log(2)
    cumulative = np.cumsum(table, axis=1)
    cumulative /= cumulative[:, -1:]
    with np.errstate(divide="ignore"):
        nll = -np.log(table)
    contexts = rng.choice(len(table), num_texts, p=source.stationary(table, *shape))
    lengths = {"20,000 symbols": 19_999, "200,000 symbols": 199_999}
    sums = {name: np.zeros((len(Blocks(length).sums), num_texts)) for name, length in lengths.items()}
    for start in range(0, max(lengths.values()), 1000):
        uniforms = rng.random((1000, num_texts, 1))
        for step in range(start, min(start + 1000, max(lengths.values()))):
            symbols = (cumulative[contexts] <= uniforms[step - start]).sum(axis=1)
            losses = nll[contexts, symbols]
            for name, length in lengths.items():
                if step < length:
                    sums[name][step // Blocks(length).size] += losses
            contexts = (contexts * shape[1] + symbols) % len(table)
    rows = []
    for name, length in lengths.items():
        units = np.full(len(sums[name]), float(Blocks(length).size))
        units[-1] = length - units[:-1].sum()
        rows.append([name, str(len(units)), *coverage(sums[name].T, units, truth)])
    return ["text", "blocks", "independent", "recorded error", "interval"], rows


NOISE: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Array]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t with 3 df": lambda rng, shape: rng.standard_t(3, size=shape),
    "log-normal": lambda rng, shape: np.exp(rng.normal(size=shape)) - math.exp(0.5),
}


def correlated(rng: np.random.Generator, phi: float, shape: tuple[int, ...], noise: str = "normal") -> Array:
    """AR(1) sequences after 200 steps that are dropped."""
    return lfilter([1.0], [1.0, -phi], NOISE[noise](rng, (*shape[:-1], shape[-1] + 200)))[..., 200:]


def sequences() -> tuple[list[str], list[list[str]]]:
    """AR(1) blocks with mean 0; a drift of 2 standard deviations of the noise over the text; a slow part."""
    rows = []
    for num in (512, 210, 64, 16, 8):
        rng = np.random.default_rng(num)
        shape, line = (TRIES, num), 2 * ((np.arange(num) + 0.5) / num - 0.5)
        cases = {f"AR {phi}": correlated(rng, phi, shape) for phi in (0.0, 0.3, 0.6)}
        cases |= {f"AR 0.3, {noise}": correlated(rng, 0.3, shape, noise) for noise in ("t with 3 df", "log-normal")}
        cases["AR 0.3, drift"] = correlated(rng, 0.3, shape) + line
        cases["AR 0.8"] = correlated(rng, 0.8, shape)
        cases["AR 0.3 + 0.3 x AR 0.98"] = correlated(rng, 0.3, shape) + 0.3 * correlated(rng, 0.98, shape)
        rows += [[name, str(num), *coverage(texts, np.ones(num), 0.0)] for name, texts in cases.items()]
    return ["blocks", "number", "independent", "recorded error", "interval"], rows


# Tests of paired differences


def real_pairs() -> Iterator[tuple[str, Array, Array, Array]]:
    """LSTM and QRNN of the committed records: name, blocks of each, targets of each block."""
    runs: dict[str, dict[str, tuple[Array, Array]]] = {}
    for path in sorted(Path("results/runs").glob("*/record.json")):
        corpus, kind = re.fullmatch(r"(.+?)-(awd-lstm|qrnn)-s\d+-\w+", path.parent.name).groups()
        for score in json.loads(path.read_text(encoding="utf-8"))["scores"]:
            if score["protocol"]["name"] == "exact":
                nats, size = np.array(score["block_nll_nats"]), score["block_targets"]
                units = np.minimum(size, score["tally"]["num_targets"] - size * np.arange(len(nats))).astype(float)
                runs.setdefault(f"{corpus} {score['split']}", {})[kind] = nats, units
    for name, by_kind in runs.items():
        (lstm, units), (qrnn, _) = by_kind["awd-lstm"], by_kind["qrnn"]
        yield name, lstm, qrnn, units


def flipped(rng: np.random.Generator, nats_a: Array, nats_b: Array, units: Array, batch: int) -> Array:
    """A's blocks under no difference: B's and the centred differences, whose signs change for whole batches."""
    rate = (nats_a - nats_b).sum() / units.sum()
    num = math.ceil(len(units) / batch) + 1
    signs = np.repeat(rng.choice([-1.0, 1.0], num), batch)[rng.integers(batch) :][: len(units)]
    return nats_b + signs * (nats_a - nats_b - rate * units)


def p_values(nats_a: Array, nats_b: Array, units: Array) -> list[float]:
    """Of the t test, the bootstrap, sign flips, independent blocks, and an unpaired test."""
    (value_a,), (influence_a,) = intervals.values_and_influences(nats_a, units)
    (value_b,), (influence_b,) = intervals.values_and_influences(nats_b, units)
    value, influences = float(value_a - value_b), influence_a - influence_b
    error = influences.std(ddof=1) / math.sqrt(len(units))
    unpaired = math.hypot(intervals.rate(nats_a, units).std_error, intervals.rate(nats_b, units).std_error)
    return [
        intervals.mean_of(value, influences).p_value(),
        bootstrap_p_value(value, influences, RESAMPLES),
        sign_flip_p_value(value, influences, 999),
        math.erfc(abs(value) / error / math.sqrt(2)),
        math.erfc(abs(value) / unpaired / math.sqrt(2)),
    ]


def bootstrap_p_value(mean: float, influences: Array, resamples: int, seed: int = 0) -> float:
    """Test a mean against 0 by the studentised moving-block bootstrap (Künsch 1989), with arch's block length.

    Every resample is studentised like the data, so that the bootstrap also accounts for the error of the error
    (Gonçalves and Vogelsang 2011).
    """
    from arch.bootstrap import optimal_block_length  # which takes 2 s

    num = len(influences)
    length = round(max(1.0, optimal_block_length(influences).to_numpy()[0, 1]))
    starts = np.random.default_rng(seed).integers(0, num - length + 1, (resamples, math.ceil(num / length), 1))
    drawn = influences[(starts + np.arange(length)).reshape(resamples, -1)[:, :num]]
    # Blocks reach the ends less often than the middle: the mean over all draws is not that of the data.
    by_offset = np.lib.stride_tricks.sliding_window_view(influences, length).mean(axis=0)
    centre = float(np.resize(by_offset, num).mean())
    observed = abs(float(t_statistics(influences[None] + mean, influences.mean())[0]))
    return float(1 + np.count_nonzero(np.abs(t_statistics(drawn, centre)) >= observed)) / (resamples + 1)


def t_statistics(samples: Array, centre: float) -> Array:
    """Studentised means of rows (rows, n)."""
    num = samples.shape[1]
    means = samples.mean(axis=1)
    projections = (samples - means[:, None]) @ intervals.smooth_functions(num)
    return (means - centre) / np.sqrt(np.mean(projections**2, axis=1) / num)


def sign_flip_p_value(mean: float, influences: Array, flips: int, seed: int = 0) -> float:
    """Test a mean against 0 by flipping the signs of batches of blocks; with B batches it is at least 2 / 2^B.

    Batches, and not blocks, because neighbouring blocks are correlated.
    """
    num = len(influences)
    # Fewer than the interval has functions, because correlation between neighbouring batches makes this test reject too
    # often and the interval's functions avoid it. With fewer than 8 it could hardly reject at all.
    num_batches = min(num, max(8, round(0.2 * math.cbrt(num) ** 2) + 1))
    first = np.linspace(0, num, num_batches + 1).round().astype(int)[:-1]
    sums = np.add.reduceat(influences - influences.mean() + mean, first)
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), (flips, len(sums)))
    # The observed pattern is among the flips up to rounding, which must not decide.
    extreme = np.abs(signs @ sums) >= abs(float(sums.sum())) * (1 - 1e-12)
    return (1 + int(np.count_nonzero(extreme))) / (flips + 1)


def null() -> tuple[list[str], list[list[str]]]:
    """Share of p-values below 0.05 without a difference, in 2,000 tries."""
    rows, tries = [], 2000
    for num in (512, 210):
        for phi, noise in ((0.0, "normal"), (0.3, "normal"), (0.6, "normal"), (0.3, "t with 3 df")):
            name = f"AR {phi}" if noise == "normal" else f"AR {phi}, {noise}"
            rng = np.random.default_rng(num)
            text = 10 + 3 * correlated(rng, 0.5, (tries, num))
            other = text + correlated(rng, phi, (tries, num), noise)
            rows.append([name, str(num), *rejections(other, text, np.ones(num))])
    for name, lstm, qrnn, units in real_pairs():
        for batch in (1, 16):
            rng = np.random.default_rng(batch)
            a = [flipped(rng, lstm, qrnn, units, batch) for _ in range(tries)]
            rows.append([f"{name}, flips of {batch}", str(len(units)), *rejections(a, [qrnn] * tries, units)])
    return ["differences", "blocks", "t", "bootstrap", "sign flips", "independent", "unpaired"], rows


def rejections(texts_a: Array | list[Array], texts_b: Array | list[Array], units: Array) -> list[str]:
    ps = [p_values(a, b, units) for a, b in zip(texts_a, texts_b, strict=True)]
    return [percent(column < 0.05) for column in np.array(ps).T]


def power() -> tuple[list[str], list[list[str]]]:
    """ptb-char test, flips of 16 blocks, plus a true difference in BPC; 500 tries."""
    _, lstm, qrnn, units = next(each for each in real_pairs() if each[0] == "ptb-char test")
    rows = []
    for bpc in (0.0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.02, 0.03, 0.04):
        rng = np.random.default_rng(3)
        a = [flipped(rng, lstm, qrnn, units, 16) + bpc * math.log(2) * units for _ in range(500)]
        shares = rejections(a, [qrnn] * 500, units)
        rows.append([f"{bpc:.3f}", *shares[:3], shares[-1]])
    return ["true difference (BPC)", "t", "bootstrap", "sign flips", "unpaired"], rows


# Recipes over seeds and text; equivalence; planning


def recipes() -> tuple[list[str], list[list[str]]]:
    """512 blocks; standard deviations of a block, of a seed, and of a block of a seed, in units of sqrt(512)."""
    num, rows = 512, []
    for num_seeds in (2, 3, 5):
        for text, seed, both in ((1.0, 0.0, 0.5), (1.0, 0.5, 0.5), (1.0, 1.0, 0.5), (0.5, 2.0, 0.5)):
            rng = np.random.default_rng(num_seeds)
            hits, alone = [], []
            for _ in range(2000):
                # What the text does to A and not to B is all that matters; what it does to both cancels.
                own = correlated(rng, 0.3, (2, num_seeds, num)) * both * 0.7
                lasting = rng.normal(size=(2, num_seeds, 1)) * seed / math.sqrt(num)
                favour = correlated(rng, 0.3, (num,)) * text * 0.7
                a, b = own + lasting
                result = seeds.difference(10 + a + favour, 10 + b, np.ones(num))
                hits.append(result.estimate.p_value() >= 0.05)
                over_text = intervals.rate((a - b).mean(axis=0) + favour, np.ones(num))
                alone.append(over_text.p_value() >= 0.05)
            rows.append([str(num_seeds), str(text), str(seed), str(both), percent(hits), percent(alone)])
    return ["seeds", "text", "seed", "seed on text", "seeds and text", "text alone"], rows


def unequal() -> tuple[list[str], list[list[str]]]:
    """As `recipes`, with other numbers of seeds and other standard deviations of a seed on each side; text 0.3."""
    num, rows = 512, []
    for num_a, num_b in ((2, 2), (2, 5), (2, 10), (3, 10), (5, 10)):
        for seed_a, seed_b in ((1.0, 1.0), (1.0, 0.3), (0.3, 1.0)):
            rng = np.random.default_rng(num_a + num_b)
            hits = []
            for _ in range(2000):
                favour = rng.normal(size=num) * 0.3
                a, b = (
                    10 + rng.normal(size=(count, 1)) * spread / math.sqrt(num) + rng.normal(size=(count, num)) * 0.1
                    for count, spread in ((num_a, seed_a), (num_b, seed_b))
                )
                hits.append(seeds.difference(a + favour, b, np.ones(num)).estimate.p_value() >= 0.05)
            rows.append([str(num_a), str(num_b), str(seed_a), str(seed_b), percent(hits)])
    return ["seeds of A", "of B", "spread of A", "of B", "seeds and text"], rows


def planning() -> tuple[list[str], list[list[str]]]:
    """Power of what was planned for 0.8, and how often runs are called equivalent."""
    rng, rows, size, tries = np.random.default_rng(5), [], 0.1, 4000
    known = seeds.Variances(text=1 / 512, seeds=math.nan, both=math.nan, text_df=19)
    factor = seeds.texts_needed(known, size)
    texts = rng.normal(size=(tries, round(512 * factor))) + size
    found = [intervals.rate(each, np.ones(len(each))).p_value() < 0.05 for each in texts]
    rows.append([f"{factor:.2f} times 512 blocks", "finds the difference", percent(found)])
    known = seeds.Variances(text=1 / 2048, seeds=4 / 512, both=0.5 / 512, text_df=19)
    count = seeds.seeds_needed(known, size)
    found = []
    for _ in range(tries):
        lasting = rng.normal(size=(2, count, 1)) * math.sqrt(2 / 512)
        a, b = lasting + rng.normal(size=(2, count, 512)) * 0.5
        result = seeds.difference(a + 0.5 * rng.normal(size=512) + size, b, np.ones(512))
        found.append(result.estimate.p_value() < 0.05)
    rows.append([f"{count} seeds a side", "finds the difference", percent(found)])
    for true in (0.0, size, 2 * size):
        texts = rng.normal(size=(tries, 512)) + true
        same = [paired.equivalence_p_value(intervals.rate(each, np.ones(512)), 2 * size) < 0.05 for each in texts]
        rows.append([f"true difference {true / (2 * size):.1f} of the margin", "calls it equivalent", percent(same)])
    return ["case", "outcome", "share (%)"], rows


# The gate

# Of a re-run in BPC: its spread over seeds, and of its blocks against another seed's.
SPREAD, BLOCK_NOISE = 0.0013, 0.02


def like(template: RunRecord, seed: int, shifts: Mapping[str, Array]) -> RunRecord:
    """A run of another seed: the template with shifts in BPC for each block of the splits."""
    scores = []
    for score in template.scores:
        units = np.array(score.block_units(score.tally.num_units))
        nats = np.array(score.block_nll_nats) + math.log(2) * shifts[score.split] * units
        tally = replace(score.tally, nll_nats=math.fsum(nats))
        values = {name: metric_named(name).compute(tally) for name in score.metrics}
        scores.append(replace(score, tally=tally, metrics=values, block_nll_nats=nats.tolist()))
    spec = replace(template.spec, seed=seed)
    return replace(template, spec=spec, run_id=spec.run_id, scores=scores)


def rerun(
    rng: np.random.Generator, templates: Sequence[RunRecord], results: Path, num_seeds: int, worse: float = 0.0
) -> Path:
    """Runs like the templates under seeds from 1; the splits of a run share half of the variance of a seed."""
    for template in templates:
        for seed in range(1, num_seeds + 1):
            common, shifts = rng.normal(), {}
            for split in ("valid", "test"):
                noise = rng.normal(size=512)
                # The spread is that of values on this text, so the noise of the blocks must move none.
                value = worse + SPREAD * math.sqrt(0.5) * (common + rng.normal())
                shifts[split] = value + BLOCK_NOISE * (noise - noise.mean())
            Store(results).write(like(template, seed, shifts))
    return results


def gate() -> tuple[list[str], list[list[str]]]:
    """Re-runs through the gate's own files, honest and ones 0.01 BPC worse, ten of each by 30 baselines."""
    names, code = ("ptb-char-awd-lstm-s1-275b6a3d28", "ptb-char-qrnn-s1-e9ebfb6e14"), installed().to_json()
    # Without what the gate does not read: most of the time goes into writing records.
    bare = {"code": code, "curve": [], "traces": [], "timings": [], "attempts": [], "costs": None}
    templates = [replace(Store(Path("results")).find(name), **bare) for name in names]
    rows, tries = [], 10
    for num_seeds, blocks in ((5, False), (10, False), (10, True), (20, True)):
        rng = np.random.default_rng(num_seeds)
        alarms, caught, promised = 0, [], []
        for _ in range(30):
            with TemporaryDirectory() as name:
                folder = Path(name)
                file = folder / "baseline.json"
                check.update(rerun(rng, templates, folder / "one", 1), file, blocks=blocks)
                seeds = rerun(rng, templates, folder / "seeds", num_seeds)
                shutil.copytree(folder / "one", folder / "seeds", dirs_exist_ok=True)
                for row in calibrate.calibrate(seeds, file, num_seeds).rows:
                    how = row.calibration
                    promised.append(calibrate.power_of(0.01, how.margin + how.text, how.spread, num_seeds))
                for attempt in range(tries):
                    honest = rerun(rng, templates, folder / f"honest {attempt}", 1)
                    alarms += check.check(honest, file, code=code).exit_code == 1
                    worse = rerun(rng, templates, folder / f"worse {attempt}", 1, 0.01)
                    judged = check.check(worse, file, code=code).rows
                    caught += [row.verdict == "regression" for row in judged if row.identity[-1] == "quality"]
        low, high = (100 * each for each in binomtest(alarms, 30 * tries).proportion_ci(0.95))
        found = [f"{alarms} ({low:.1f} to {high:.1f} %)", percent(caught), percent(promised)]
        rows.append([str(num_seeds), "yes" if blocks else "no", *found])
    return ["seeds", "blocks", "alarms in 300 tables", "0.01 worse: caught", "promised"], rows


def baselines() -> tuple[list[str], list[list[str]]]:
    """20,000 calibrations of 4 rows from normal values, each with the exact rate of its alarms."""
    rows, tries, num_rows = [], 20_000, 4
    for num_seeds in (3, 5, 10, 20):
        for shared in (True, False):
            rng = np.random.default_rng(num_seeds)
            values = rng.normal(size=(tries, 1 if shared else num_rows, num_seeds))
            spread = values.std(axis=-1, ddof=1)
            factor = calibrate.margin_for(1.0, num_seeds, num_rows)
            alarms = 1 - norm.cdf(values.mean(axis=-1) + factor * spread).prod(axis=1)
            # As before: the first seed's value, and the quantile of Student's t that holds on average.
            student = math.sqrt(2) * t.ppf(1 - 0.01 / num_rows, num_seeds - 1)
            before = 1 - norm.cdf(values[..., 0] + student * spread).prod(axis=1)
            rows.append([str(num_seeds), "equal" if shared else "independent", f"{factor:.2f}", *shares(alarms)])
            rows[-1] += [f"{student:.2f}", *shares(before)]
    return ["seeds", "rows", "factor", "mean", "above 1 %", "Student's", "mean", "above 1 %"], rows


def shapes() -> tuple[list[str], list[list[str]]]:
    """As `baselines` with 4 independent rows, where the values of seeds are not normal."""
    rows, tries, num_rows = [], 5000, 4
    draws = {
        "t with 5 df": lambda rng, shape: rng.standard_t(5, size=shape),
        "t with 3 df": lambda rng, shape: rng.standard_t(3, size=shape),
        "exponential, tail to the worse": lambda rng, shape: rng.exponential(size=shape),
    }
    for name, draw in draws.items():
        for num_seeds in (5, 10, 20):
            rng = np.random.default_rng(num_seeds)
            values = draw(rng, (tries, num_rows, num_seeds))
            margin = calibrate.margin_for(1.0, num_seeds, num_rows) * values.std(axis=-1, ddof=1)
            every = np.sort(draw(rng, 1_000_000))
            passes = np.searchsorted(every, values.mean(axis=-1) + margin) / len(every)
            rows.append([name, str(num_seeds), *shares(1 - passes.prod(axis=1))])
    return ["values of seeds", "seeds", "mean", "above 1 %"], rows


def shares(alarms: Array) -> list[str]:
    return [f"{100 * alarms.mean():.2f}", percent(alarms > 0.01)]


TABLES = {
    "markov": markov,
    "sequences": sequences,
    "null": null,
    "power": power,
    "recipes": recipes,
    "unequal": unequal,
    "planning": planning,
    "gate": gate,
    "baselines": baselines,
    "shapes": shapes,
}

if __name__ == "__main__":
    main(sys.argv[1:])
