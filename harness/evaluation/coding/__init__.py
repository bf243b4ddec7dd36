"""Write a text as the code that a model's probabilities promise, and read it back.

In: a loaded model and tokens or bytes. Out: a file of about as many bits as the model's loss, and the same text again.
`coder` writes tokens (`harness audit`), `compressor` any file (`harness compress`). Below them, `rows` codes tokens
with given probabilities, `container` is the format of the file, `settings` what the bits of a probability depend on,
`text` turns bytes into tokens, and `residual` holds what tokens do not say. All but `residual` and `rows` import torch;
import the modules, since this package imports none of them.
"""

__all__ = ["coder", "compressor", "container", "residual", "rows", "settings", "text"]
