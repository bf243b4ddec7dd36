"""Intervals and tests for scores of correlated text.

In: sums of nll over consecutive blocks of a text, one array per run, and what the rate divides by, per block. Out: an
`Estimate` with a standard error and degrees of freedom, p-values, and how many seeds or how much text a question needs.

`intervals` estimates one score, `paired` the difference of two scores of one text, `seeds` the difference of two
recipes over seeds and text, `multiple` corrects several p-values. `alignment` brings the blocks of two tokenisations
to common byte ranges, `importance` says which parameters of a random study matter. docs/statistics.md shows measured
coverage.

Pure numpy and scipy.special, and scikit-learn for `importance`; imports nothing of ours. Wrong input raises a
ValueError of one line.
"""

__all__ = ["alignment", "importance", "intervals", "multiple", "paired", "seeds"]
