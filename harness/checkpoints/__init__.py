"""Checkpoints on disk: safetensors files and one JSON index. Nothing is ever unpickled.

`format` writes and reads a checkpoint folder; `index` types its JSON. `best` maintains the best model of a training
run, `model` turns a checkpoint into a model ready to score, `export` writes 16-bit shards, and `awd_lstm_lm` imports
checkpoints of the official awd-lstm-lm code.

In: tensors and metadata of a training run, or a folder. Out: a folder, its index, tensors on the CPU or a LoadedModel.
The submodules import torch or pydantic, so import them by name where they are needed.
"""

__all__ = ["awd_lstm_lm", "best", "export", "format", "index", "model"]
