"""Models from outside the package: found by import path or entry point, checked, and adapted to the harness.

A builder such as `my_package.my_model:MyModel` names a subclass of `base.Model`. `loader` imports it and turns the
arguments of its constructor into a config; `contract` tests what the harness relies on before anything is trained;
`adapter` gives it the interface of `lm_models.step`, with a sliding window for models without state; `source` names the
code that a number came from. Importing this package imports no torch.
"""

__all__ = ["adapter", "base", "contract", "loader", "source"]
