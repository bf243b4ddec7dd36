"""Audit a score: is it the length of a code for this text?

In: an `EvaluationRequest`, or a score that a record holds. Out: an `Audit` or a `ScoreAudit`, with a `Check` for each
thing that could be wrong. `report` runs all checks: `distributions` looks at a model's probabilities, `adapted` at
those of an adaptive protocol, `places` at those in the middle of scoring, in a process of `forked`, `counts` at the
tally, `claims` at the record, `sealed` at the files that are opened, `copies` at what they hold, and
`harness.evaluation.coding.coder` encodes the text and decodes it again. `checks` makes the result of one. All but
`checks` and `sealed` import torch; import the modules, since this package imports none of them.
"""

__all__ = ["adapted", "checks", "claims", "copies", "counts", "distributions", "forked", "places", "report", "sealed"]
