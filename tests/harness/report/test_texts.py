"""Models of characters and of words in one group, and the sizes of texts of records that do not hold them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from record_factory import label, labelled, record, score, spec

from harness import data
from harness.core.config.evaluation import Evaluation
from harness.core.scores import TextSize
from harness.report import build, write
from harness.report.texts import with_size
from harness.results.record import RunRecord


def of_dataset(name: str, metric: str, value: float, targets: int, **changes: Any) -> RunRecord:
    """A record of before there were counts, of the test split."""
    unit = data.facts({"name": name}).unit
    dataset = {"name": name, **({"vocabulary": "frequency"} if unit == "word" else {})}
    made = spec(
        label=label(suite=name, dataset=data.facts(dataset).title, metrics=(metric,), published=None),
        dataset=dataset,
        dataset_identity=data.identify(dataset),
        evaluation=Evaluation(splits=("test",)),
    )
    scores = [score(value, metric=metric, targets=targets)]
    return record(value, spec_=made, scores=scores, **{"data": {"unit": unit}, **changes})


CHARS = of_dataset("ptb-char", "bpc", 1.5, 442_422)
WORDS = of_dataset("ptb-word", "perplexity", 90.0, 82_429)


def test_characters_and_words_of_one_text_are_ranked_together_per_byte() -> None:
    table = build(labelled(CHARS, WORDS), (), metric="bits_per_byte")
    [group] = table.groups()
    assert [row.suite for row in group] == ["ptb-word", "ptb-char"]
    assert [row.rank for row in group] == [1, 2]
    assert group[0].value == pytest.approx(82_429 * math.log2(90.0) / 442_421)
    assert group[1].value == pytest.approx(1.5)
    assert group[0].ties_best is None, "blocks of different targets cannot be paired"
    [(heading, note)] = table.notes()
    assert heading == "Penn Treebank: Bits per Byte, test"
    assert "442,421 to 442,422 bytes" in note
    assert "\n" not in note
    assert note.split()[0] in write(table, "github")


def test_a_standard_error_is_converted_between_denominators() -> None:
    [row] = build(labelled(WORDS), (), metric="bits_per_byte").rows
    # 0.004 of the perplexity, to first order: d(bits per byte) = d(ppl) / ppl / ln 2 * targets / bytes.
    assert row.std_error == pytest.approx(0.004 / 90.0 / math.log(2) * 82_429 / 442_421)


@pytest.mark.parametrize("metric", ["word_perplexity", "bits_per_char", "byte_perplexity"])
def test_every_metric_of_the_text_is_shown_of_both(metric: str) -> None:
    assert len(build(labelled(CHARS, WORDS), (), metric=metric).rows) == 2


def test_a_metric_is_not_shown_of_units_that_it_does_not_fit() -> None:
    assert [row.suite for row in build(labelled(CHARS, WORDS), (), metric="bpc").rows] == ["ptb-char"]


def test_an_own_text_of_the_same_name_is_another_text() -> None:
    own = replace(WORDS.spec, dataset={"kind": "words", "name": "ptb-word"}, dataset_identity={"name": "ptb-word"})
    table = build(labelled(CHARS, replace(WORDS, spec=own)), (), metric="token_perplexity")
    assert len(table.groups()) == 2
    [row] = build(labelled(replace(WORDS, spec=own)), (), metric="bits_per_byte").rows
    assert row.value is None
    assert "older than counts of bytes" in str(row.error)
    # The cell is empty, and the source column says why.
    assert f"| {'—':>7} |" in write(build(labelled(replace(WORDS, spec=own)), (), metric="bits_per_byte"), "github")


def test_bytes_of_ones_own_need_no_count() -> None:
    own = replace(CHARS.spec, dataset={"kind": "bytes"}, dataset_identity={"name": "mine", "kind": "bytes"})
    mine = replace(CHARS, spec=own, data={"unit": "byte"})
    assert with_size(mine, mine.scores[0]).tally.num_bytes == 442_422
    [row] = build(labelled(mine), (), metric="word_perplexity").rows
    assert (row.value, row.error) == (None, "the record does not hold the text's words")


def test_files_of_splits_are_one_text_however_they_are_cut() -> None:
    identities = [
        {"name": "mine", "kind": kind, "fractions": None, "sha256": {"test": "ab"}} for kind in ("bytes", "chars")
    ]
    specs = [replace(CHARS.spec, dataset={"kind": each["kind"]}, dataset_identity=each) for each in identities]
    counted = CHARS.scores[0].tally.with_text(TextSize(500_000, 442_422, 80_000))
    scores = [replace(CHARS.scores[0], tally=counted)]
    records = [replace(CHARS, spec=each, scores=scores) for each in specs]
    assert len(build(labelled(*records), (), metric="bits_per_byte").groups()) == 1
    cut = [replace(each, dataset_identity={**each.dataset_identity, "fractions": [0.9, 0.05, 0.05]}) for each in specs]
    records = [replace(CHARS, spec=each, scores=scores) for each in cut]
    assert len(build(labelled(*records), (), metric="bits_per_byte").groups()) == 2, (
        "fractions cut bytes and characters"
    )


@pytest.mark.parametrize(("detokenizer", "num_groups"), [("none", 1), ("wikitext", 2)])
def test_a_file_read_as_it_is_is_one_text_with_its_bytes_and_never_the_normalised_one(
    detokenizer: str, num_groups: int
) -> None:
    scores = [replace(CHARS.scores[0], tally=CHARS.scores[0].tally.with_text(TextSize(500_000, 442_422, 80_000)))]
    own = replace(
        CHARS.spec,
        dataset={"kind": "bytes"},
        dataset_identity={"name": "mine", "kind": "bytes", "sha256": {"test": "ab"}},
    )
    of_bytes = replace(CHARS, spec=own, scores=scores)
    data_read = {"unit": "token", "texts": {"test": {"sha256": "ab"}}}
    model = {"builder": "hf", "detokenizer": detokenizer}
    pretrained = replace(of_bytes, spec=replace(own, model=model), data=data_read)
    assert len(build(labelled(of_bytes, pretrained), (), metric="bits_per_byte").groups()) == num_groups
    on_penn = replace(pretrained, spec=replace(WORDS.spec, model=model))
    assert len(build(labelled(WORDS, on_penn), (), metric="bits_per_byte").groups()) == 2


@pytest.mark.parametrize(
    ("other", "num_groups"),
    [
        ({}, 1),
        ({"event_space": "tokens, of the text as wikitext detokenises it"}, 2),
        ({"counts": {"test": {"tokens": 11_705}}}, 2),
    ],
)
def test_values_per_token_rank_together_only_for_the_same_tokens(other: dict[str, Any], num_groups: int) -> None:
    read = {
        "unit": "token",
        "event_space": "tokens",
        "texts": {"test": {"sha256": "ab"}},
        "counts": {"test": {"tokens": 12_163}},
    }
    records = [replace(CHARS, data=each) for each in (read, read | other)]
    assert len(build(labelled(*records), (), metric="token_perplexity").groups()) == num_groups


def test_a_protocol_that_drops_several_tokens_cannot_be_sized_afterwards() -> None:
    dropping = replace(WORDS.scores[0], tally=replace(WORDS.scores[0].tally, num_dropped=13))
    with pytest.raises(ValueError, match="drops several tokens"):
        with_size(WORDS, dropping)


def test_an_earlier_preparation_had_other_tokens() -> None:
    other = replace(WORDS.spec, dataset_identity={**WORDS.spec.dataset_identity, "preparation": 0})
    with pytest.raises(ValueError, match="its data does not tell"):
        with_size(replace(WORDS, spec=other), WORDS.scores[0])


def test_what_a_record_holds_is_not_replaced() -> None:
    counted = replace(WORDS.scores[0], tally=WORDS.scores[0].tally.with_text(TextSize(5, 5, 1)))
    assert with_size(WORDS, counted) is counted
