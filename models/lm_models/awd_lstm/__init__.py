"""AWD-LSTM language model: LSTM layers with DropConnect on the recurrent matrix.

`config.Config` is the checked config (no torch), `model.build` builds the module.
"""

__all__ = ["config", "model"]
