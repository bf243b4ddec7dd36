"""Audit a score: is it the length of a code for this text?

In: an `EvaluationRequest`. Out: an `Audit`, with a `Check` for each thing that could be wrong. `report` runs all
checks: `distributions` looks at a model's probabilities, `counts` at the tally, and `harness.evaluation.coding.coder`
encodes the text and decodes it again. `checks` has the result of one. All but `checks` import torch; import the
modules, since this package imports none of them.
"""

__all__ = ["checks", "counts", "distributions", "report"]
