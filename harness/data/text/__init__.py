"""Text to token ids: `characters` reads bytes and code points, `words` reads words.

Imports neither numpy nor pyarrow, so that a dataset can state its event space before any text is read.
"""

# The token at the end of every line of words.
EOS = "<eos>"

WORDS_EVENT_SPACE = (
    "one token per word of each line, cut at white space as Python's str.split does, then `<eos>` at the line's end, "
    "blank lines included; `<unk>` in the text is a word like any other; the vocabulary is that of train, valid and "
    "test together, so that every word has a probability"
)
