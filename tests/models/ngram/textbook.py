"""Interpolated Kneser-Ney smoothing written down from its definition, with dictionaries. Slow, for tiny texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Gram = tuple[int, ...]


class Textbook:
    """An n-gram model of a text; `end` is the token that ends a sentence, None for a text without sentences."""

    def __init__(self, text: Sequence[int], order: int, vocab_size: int, *, end: int | None, modified: bool) -> None:
        self.order, self.vocab_size, self.end = order, vocab_size, end
        occurrences = [Counter(grams(text, length, end)) for length in range(order + 2)]
        self.counts: list[dict[Gram, int]] = [{}]
        for length in range(1, order + 1):
            if length == order:
                self.counts.append(dict(occurrences[length]))
                continue
            before: dict[Gram, set[int]] = {gram: set() for gram in occurrences[length]}
            for longer in occurrences[length + 1]:
                before[longer[1:]].add(longer[0])
            counts = {gram: len(tokens) for gram, tokens in before.items()}
            if end is None:
                # The beginning of the text precedes, too.
                counts[tuple(text[:length])] = counts.get(tuple(text[:length]), 0) + (length <= len(text))
            elif length > 1:
                # Nothing precedes the beginning of a sentence.
                counts |= {gram: number for gram, number in occurrences[length].items() if gram[0] == end}
            self.counts.append({gram: number for gram, number in counts.items() if number})
        self.discounts = [()] + [discounts(list(each.values()), modified) for each in self.counts[1:]]

    def probability(self, token: int, context: Gram) -> float:
        """p(token | the last tokens of context)."""
        context = context[len(context) - min(len(context), self.order - 1) :]
        length = len(context) + 1
        shorter = self.probability(token, context[1:]) if context else 1 / self.vocab_size
        after = {gram[-1]: number for gram, number in self.counts[length].items() if gram[:-1] == context}
        total = sum(after.values())
        if not total:
            return shorter
        freed = sum(self.discounts[length][min(number, 3) - 1] for number in after.values())
        number = after.get(token, 0)
        discounted = number - self.discounts[length][min(number, 3) - 1] if number else 0.0
        return discounted / total + freed / total * shorter

    def context_at(self, text: Sequence[int], place: int) -> Gram:
        """What the model sees after the token at a place of a text."""
        seen = tuple(text[: place + 1])
        if self.end is None:
            return seen
        seen = (self.end, *seen)
        return seen[len(seen) - 1 - seen[::-1].index(self.end) :]


def grams(text: Sequence[int], length: int, end: int | None) -> list[Gram]:
    """All n-grams of a length, each as often as it occurs."""
    if end is None:
        return [tuple(text[place : place + length]) for place in range(len(text) - length + 1)]
    found = []
    sentence: list[int] = [end]
    sentences = []
    for token in text:
        sentence.append(token)
        if token == end:
            sentences.append(sentence)
            sentence = [end]
    for each in [*sentences, sentence]:
        # The mark of the beginning is a context and never a prediction.
        first = 1 if length == 1 else 0
        found += [tuple(each[place : place + length]) for place in range(first, len(each) - length + 1)]
    return found


def discounts(counts: list[int], modified: bool) -> tuple[float, ...]:
    """For counts of 1, 2, and 3 or more."""
    n = [counts.count(number) for number in range(5)]
    single = n[1] / (n[1] + 2 * n[2]) if n[1] else 0.5
    if single == 1:
        single = 0.5
    if modified and n[1] and n[2] and n[3]:
        three = [i - (i + 1) * single * n[i + 1] / n[i] for i in (1, 2, 3)]
        if all(0 < d <= i for i, d in enumerate(three, start=1)):
            return tuple(three)
    return (single,) * 3
