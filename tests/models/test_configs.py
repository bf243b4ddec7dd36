"""Configs: parameter counts, refusals, and no torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import lm_models
from lm_models.awd_lstm.config import Config as AwdLstm
from lm_models.config import Dropout, softmax_columns
from lm_models.markov.config import Config as Markov
from lm_models.qrnn.config import Config as Qrnn

# Counts of the official code and the paper; the first QRNN is that of the paper's 13.8M row.
PUBLISHED = [
    ("awd-lstm", AwdLstm(layers=3, hidden=1000, embedding=200), 50, 13_787_650),
    ("awd-lstm", AwdLstm(layers=3, hidden=1840, embedding=400), 205, 47_270_045),
    ("awd-lstm", AwdLstm(layers=3, hidden=1150, embedding=400), 10_000, 24_221_600),
    ("awd-lstm", AwdLstm(layers=2, hidden=256, embedding=64), 50, 415_410),
    ("awd-lstm", AwdLstm(layers=2, hidden=200, embedding=200, tie=False), 10_000, 4_653_200),
    ("qrnn", Qrnn(layers=6, hidden=1024, embedding=128), 50, 13_784_754),
    ("qrnn", Qrnn(layers=4, hidden=1550, embedding=400), 10_000, 24_020_150),
    ("qrnn", Qrnn(layers=4, hidden=2500, embedding=400, cutoffs=(2800, 20_000, 76_000)), 267_735, 153_886_638),
]


@pytest.mark.parametrize(("builder", "config", "vocab_size", "count"), PUBLISHED)
def test_published_parameter_counts(builder: str, config: lm_models.ModelConfig, vocab_size: int, count: int) -> None:
    assert config.num_parameters(vocab_size) == count
    with torch.device("meta"):
        model = lm_models.build(builder, config, vocab_size=vocab_size)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_formulas_agree_with_built_models(layers: int, tie: bool) -> None:
    configs = {
        "awd-lstm": AwdLstm(layers=layers, hidden=7, embedding=5, tie=tie),
        "qrnn": Qrnn(layers=layers, hidden=7, embedding=5, tie=tie, first_window=1 + layers % 2),
    }
    for builder, config in configs.items():
        model = lm_models.build(builder, config, vocab_size=13)
        assert sum(p.numel() for p in model.parameters()) == config.num_parameters(13)
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name != "embedding"]
        softmax = 13 * 5 if tie else 0
        assert config.forward_flops_per_token(13) == 2 * (sum(p.numel() for p in matrices) + softmax)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AwdLstm(layers=0, hidden=2, embedding=2), "layers must be at least 1, got 0"),
        (lambda: AwdLstm(layers=1001, hidden=2, embedding=2), "layers must be at most 1,000, got 1,001"),
        (lambda: Qrnn(layers=10**9, hidden=2, embedding=2), "layers must be at most 1,000"),
        (lambda: AwdLstm(layers=1, hidden=2, embedding=0), "embedding must be at least 1, got 0"),
        (lambda: AwdLstm(layers=1, hidden=2, embedding=2, ar=-1), "ar must be finite and not negative, got -1"),
        (
            lambda: AwdLstm(layers=1, hidden=2, embedding=2, initial_range=0),
            "initial_range must be finite and positive",
        ),
        (lambda: AwdLstm(layers=1, hidden=2, embedding=2, initial_range=float("inf")), "initial_range must be finite"),
        (lambda: Qrnn(layers=1, hidden=2, embedding=2, tar=float("nan")), "tar must be finite"),
        (lambda: Qrnn(layers=1, hidden=-3, embedding=2), "hidden must be at least 1, got -3"),
        (lambda: Qrnn(layers=1, hidden=2, embedding=2, zoneout=1), r"zoneout must be in \[0, 1\), got 1"),
        (lambda: Qrnn(layers=1, hidden=2, embedding=2, first_window=3), "first_window must be 1 or 2, got 3"),
        (lambda: Dropout(weight=1.0), r"dropout.weight must be in \[0, 1\), got 1.0"),
        (lambda: Dropout(input=float("nan")), "dropout.input must be in"),
        (lambda: Markov(order=0, symbols=2, concentration=1, seed=0), "order must be in 1..16, got 0"),
        (lambda: Markov(order=10**9, symbols=2, concentration=1, seed=0), "order must be in 1..16"),
        (lambda: Markov(order=17, symbols=2, concentration=1, seed=0), "order must be in 1..16, got 17"),
        (lambda: Markov(order=1, symbols=257, concentration=1, seed=0), "symbols must be in 2..256, got 257"),
        (lambda: Markov(order=1, symbols=1, concentration=1, seed=0), "symbols must be in 2..256, got 1"),
        (lambda: Markov(order=1, symbols=65_536, concentration=1, seed=0), "symbols must be in 2..256"),
        (lambda: Markov(order=4, symbols=17, concentration=1, seed=0), "at most 65,536, got 83,521"),
        (lambda: Markov(order=1, symbols=2, concentration=0, seed=0), "concentration must be positive"),
        (lambda: Markov(order=1, symbols=2, concentration=1, seed=-1), "seed must not be negative"),
    ],
)
def test_invalid_values_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_limits_are_themselves_allowed() -> None:
    AwdLstm(layers=1000, hidden=1, embedding=1, cutoffs=(1,))
    for order, symbols in ((16, 2), (2, 256)):
        Markov(order=order, symbols=symbols, concentration=1, seed=0)


@pytest.mark.parametrize(
    ("builder", "config", "options", "message"),
    [
        ("awd-lstm", AwdLstm(layers=1, hidden=2, embedding=2), {"kernel": "nope"}, "lstm backend 'nope' is unknown"),
        ("qrnn", Qrnn(layers=1, hidden=2, embedding=2), {"kernel": "fused"}, "fo_pool backend 'fused' is unknown"),
        ("markov-oracle", Markov(order=1, symbols=4, concentration=1, seed=0), {}, "cannot score a vocabulary of 3"),
        ("qrnn", Qrnn(layers=1, hidden=2, embedding=2), {"vocab_size": 0}, "vocab_size must be at least 1"),
    ],
)
def test_builders_refuse_arguments_that_do_not_fit(builder: str, config, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lm_models.build(builder, config, **{"vocab_size": 3, **options})


def test_configs_and_tables_import_no_torch() -> None:
    code = (
        "import sys, lm_models, lm_kernels\n"
        "for name in lm_models.BUILDERS: lm_models.config_class(name)\n"
        "import lm_models.markov.source\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_op_of_a_builder_is_that_of_its_layers() -> None:
    for builder in set(lm_models.BUILDERS).difference(lm_models.PRETRAINED, lm_models.COMPRESSORS):
        config = {
            "markov-oracle": {"order": 1, "symbols": 4, "concentration": 0.5, "seed": 0},
            "ngram": {"order": 2},
            "transformer": {"layers": 1, "hidden": 4, "heads": 1, "feed_forward": 4, "memory": 2},
        }.get(builder, {"layers": 1, "hidden": 4, "embedding": 4})
        model = lm_models.build(builder, lm_models.config_class(builder)(**config), vocab_size=4)
        ops = set(getattr(model, "kernels", {}))
        assert ops == ({lm_models.KERNEL_OPS[builder]} if builder in lm_models.KERNEL_OPS else set())


def test_weights_begin_uniform_within_a_tenth_and_those_of_an_lstm_within_the_root_of_its_width() -> None:
    torch.manual_seed(0)
    model = lm_models.build("awd-lstm", AwdLstm(layers=1, hidden=50, embedding=50, tie=False), vocab_size=99)
    bounds = {model.embedding: 0.1, model.softmax.weight: 0.1, **dict.fromkeys(model.layers.parameters(), 50**-0.5)}
    for weight, bound in bounds.items():
        assert (weight.min().item(), weight.max().item()) == pytest.approx((-bound, bound), rel=0.02)
        assert weight.abs().max() <= bound
        assert abs(weight.mean()) < 0.2 * bound


@pytest.mark.parametrize("window", [1, 2])
def test_one_hot_input_is_counted_by_its_width(window: int) -> None:
    """V 13 and E 30: the first layer's input matrix has 17 columns fewer, unless a mask needs the embedding."""
    for make, rows, windows in ((AwdLstm, 4, 1), (Qrnn, 3, window)):
        more = {} if make is AwdLstm else {"first_window": window}
        plain = make(layers=2, hidden=7, embedding=30, **more)
        masked = make(layers=2, hidden=7, embedding=30, dropout=Dropout(input=0.1), **more)
        saved = masked.forward_flops_per_token(13) - plain.forward_flops_per_token(13)
        assert saved == 2 * rows * 7 * windows * (30 - 13)
        assert masked.forward_flops_per_token(15) - plain.forward_flops_per_token(15) == 2 * rows * 7 * windows * 15
        assert plain.forward_flops_per_token(16) == masked.forward_flops_per_token(16)


@pytest.mark.parametrize(("vocab_size", "first", "second"), [(20, 3, 10), (900, 120, 300)])
def test_columns_of_an_adaptive_softmax_are_their_mean_under_zipfs_law(
    vocab_size: int, first: int, second: int
) -> None:
    """By a sum over ranks: the head's words and 2 tails, and a tail's words where the target is in it."""
    ranks = range(1, vocab_size + 1)
    tails = [0 if rank <= first else second - first if rank <= second else vocab_size - second for rank in ranks]
    mean = sum((first + 2 + tail) / rank for rank, tail in zip(ranks, tails, strict=True)) / sum(1 / r for r in ranks)
    assert softmax_columns(vocab_size, (first, second)) == pytest.approx(mean, rel=1e-8)


def test_the_builders_are_all_of_the_package() -> None:
    assert {"awd-lstm", "qrnn", "mingru", "transformer", "markov-oracle", "hf"} <= set(lm_models.builders())
