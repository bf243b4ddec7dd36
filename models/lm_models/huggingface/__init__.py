"""Causal language models in Hugging Face's formats: safetensors folders, GGUF files, and pinned models of the hub.

`files` finds a model and names its content, `model` loads the weights behind `plugin.adapter`, `tokenizer` turns text
into tokens and accounts for every byte. Nothing of a model is executed: no code of its own and no pickle.
"""

__all__ = ["config", "files", "model", "tokenizer"]
