"""Train a model on a corpus by a recipe.

In: a model (`harness.core.interfaces.LanguageModel`), a `Corpus`, a `Recipe` and a seed. Out: the best model in
`folder/best`, a checkpoint to resume from in `folder/resume`, and a `TrainingState` with the learning curve.

`trainer` holds the loop, `resume` its checkpoints, `progress` its state, stopping rules and callbacks, and `throughput`
times it. All but `progress` and `windows` import torch; import the modules, since this package imports none of them.
"""

__all__ = [
    "averaging",
    "cuda_graph",
    "optimizers",
    "progress",
    "resume",
    "step",
    "throughput",
    "trainer",
    "windows",
]
