"""Score a model on a text, and generate text from it.

In: a model (`harness.core.interfaces.LanguageModel`) and token ids (N,). Out: a `Score` under a named protocol: the sum
of negative log-likelihoods in nats, the number of targets, and the block sums behind its standard error.

`protocols` scores splits, `adaptive` protocols under which the model learns from the text, `scoring` one checkpoint on
one text (`harness evaluate`), `audit` checks such a score (`harness audit`), `coding` writes texts in as few bits as a
model gives them (`harness compress`), `pretrained` loads models with tokenisers of their own and reads texts for them,
`generate` samples text (`harness sample`). All but `detokenizer`, `streams`, `target_bytes`, `token_text` and
`tokenizer` import torch; import the modules, since this package imports none of them.
"""

__all__ = [
    "adaptive",
    "audit",
    "blocks",
    "coding",
    "detokenizer",
    "generate",
    "pretrained",
    "protocols",
    "scoring",
    "streams",
    "target_bytes",
    "token_text",
    "tokenizer",
]
