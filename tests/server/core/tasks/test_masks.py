"""Candidates for masks equal those of transformers' fill-mask pipeline, where both are given the same logits."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer
from transformers.pipelines.fill_mask import FillMaskPipeline

from bertstream.server.core.errors import RequestError
from bertstream.server.core.sent import Sent, SentItems
from bertstream.server.core.tasks.base import Rows, Share
from bertstream.server.core.tasks.masks import FillMasks
from bertstream.server.core.tokenization import Texts
from bertstream.server.protocols.bertstream_v1.tasks.items import items_for
from bertstream.server.protocols.bertstream_v1.tasks.masks import parse_fill_mask
from bertstream.server.protocols.bertstream_v1.tasks.writing import write
from bertstream.server.protocols.bertstream_v1.validation.tasks import require_mask
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import BULK, INTERACTIVE
from tests.server.core.tasks.conftest import Stub
from tests.server.core.tasks.stubs import StubModel, stub_model
from tests.server.protocols.bertstream_v1.validation.support import refused
from tests.support.checkpoints import edit_json

Checkpoint = Callable[[str], Path]
FAMILIES = [
    "bert",
    "bert-cased",
    "roberta",
    "roberta-pad",
    "xlm-roberta",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "modernbert",
    "deberta-v2",
    "albert",
]
MASKED = [
    "The quick [MASK] fox.",
    "[MASK] answers questions , and [MASK] ' s whole pages n't !",
    "今天[MASK]气很好。",
    "[MASK]",
    "Der schnelle  [MASK]  Fuchs; 😀 [CLS] by hand [PAD] <pad> </s>",
]


def parse(model: StubModel, **options: Any) -> FillMasks:
    return parse_fill_mask(tasks_pb2.FillMaskOptions(**options), model, INTERACTIVE, "options").task


def texts(*listed: str) -> SentItems:
    return Sent(Texts(listed))


def logits_of(rows: Rows[Any], vocabulary: int) -> NDArray[np.float32]:
    """Return logits made up for each mask: [S, V]."""
    assert rows.batch.spans is not None
    shape = (rows.batch.spans.starts.size, vocabulary)
    return np.random.default_rng(5).normal(size=shape).astype(np.float32) * 3


def share_of_all(task: FillMasks, rows: Rows[Any]) -> Share:
    """Return the share of all items, with tensors as workers answer them."""
    options = task.output_options.head
    assert options is not None
    probabilities = torch.from_numpy(logits_of(rows, task.model.description.vocabulary_size)).softmax(-1)
    targets = torch.tensor(options.targets) if options.targets else torch.arange(probabilities.shape[1])
    best = probabilities[:, targets].topk(options.top_k)
    tensors = {
        "mask_candidates.ids": targets[best.indices].numpy().astype(np.int32),
        "mask_candidates.scores": best.values.numpy(),
    }
    items, counts = np.unique(rows.items, return_counts=True)
    return Share(items.astype(np.int64), np.arange(rows.items.size), counts, tensors)


def answer(task: FillMasks, sent: SentItems) -> tasks_pb2.MaskCandidates:
    rows = task.prepare(sent)
    assert not rows.failed
    message = write(task.answer(rows, share_of_all(task, rows)))
    assert isinstance(message, tasks_pb2.MaskCandidates)
    return message


def expected(directory: Path, rows: Rows[Any], vocabulary: int, **options: Any) -> list[dict[str, Any]]:
    """Return the pipeline's candidates for all masks of all texts, end to end, from the made-up logits."""
    assert rows.batch.spans is not None
    pipeline: Any = FillMaskPipeline.__new__(FillMaskPipeline)
    pipeline.tokenizer = AutoTokenizer.from_pretrained(directory)
    logits = np.split(logits_of(rows, vocabulary), np.cumsum(rows.batch.spans.counts)[:-1])
    places = np.split(rows.batch.spans.starts, np.cumsum(rows.batch.spans.counts)[:-1])
    found: list[dict[str, Any]] = []
    for ids, own, at in zip(np.split(rows.batch.ids, np.cumsum(rows.batch.lengths)[:-1]), logits, places, strict=True):
        whole = torch.zeros(1, ids.size, vocabulary)
        whole[0, at.tolist()] = torch.from_numpy(own)
        outputs = {"input_ids": torch.from_numpy(ids.astype(np.int64))[None], "logits": whole}
        candidates = pipeline.postprocess(outputs, **options)
        found += candidates if at.size == 1 else [each for of_mask in candidates for each in of_mask]
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_candidates_are_those_of_the_pipeline(stub: Stub, checkpoint: Checkpoint, family: str) -> None:
    model = stub(family, "fill_mask")
    task = parse(model, top_k=7)
    message, rows = answer(task, texts(*MASKED)), task.prepare(texts(*MASKED))
    theirs = expected(checkpoint(family), rows, model.description.vocabulary_size, top_k=7)
    assert list(message.mask_counts) == [1, 2, 1, 1, 1]
    assert list(message.candidate_counts) == [7] * 6
    assert list(message.token_ids) == [each["token"] for each in theirs]
    assert list(message.tokens) == [each["token_str"] for each in theirs]
    assert list(message.sequences) == [each["sequence"] for each in theirs]
    assert np.allclose(list(message.scores), [each["score"] for each in theirs], atol=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_candidates_with_their_spaces_cleaned_up(checkpoint: Checkpoint, tmp_path: Path, family: str) -> None:
    directory = Path(shutil.copytree(checkpoint(family), tmp_path / family))
    edit_json(directory / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    task = parse(stub_model(directory, tmp_path, "fill_mask"), top_k=7)
    asked = texts("The quick [MASK] . Fox , dog !", "[MASK] , [MASK] ' s sun .")
    message, rows = answer(task, asked), task.prepare(asked)
    theirs = expected(directory, rows, task.model.description.vocabulary_size, top_k=7)
    assert list(message.tokens) == [each["token_str"] for each in theirs]
    assert list(message.sequences) == [each["sequence"] for each in theirs]
    assert all((" ." in each) is (family == "roberta") for each in message.sequences)


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_checkpoints_own_mask(stub: Stub, checkpoint: Checkpoint, family: str) -> None:
    own = AutoTokenizer.from_pretrained(checkpoint(family))
    rows = parse(stub(family, "fill_mask")).prepare(texts(*MASKED))
    ids = [own(text.replace("[MASK]", own.mask_token))["input_ids"] for text in MASKED]
    assert rows.batch.ids.tolist() == [id for each in ids for id in each]
    assert rows.batch.spans is not None
    places = [place for each in ids for place, id in enumerate(each) if id == own.mask_token_id]
    assert rows.batch.spans.starts.tolist() == places


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_pairs_words_and_ids_have_masks_too(stub: Stub, family: str) -> None:
    model = stub(family, "fill_mask")
    mask = model.description.special_tokens["mask"][1]
    task = parse(model, top_k=2, omit_sequences=True)
    pairs = types_pb2.TextPairs(first_texts=["fox", "[MASK]"], second_texts=["a [MASK] b", "[MASK]"])
    assert list(answer(task, items_for(task, types_pb2.TextBatch(pairs=pairs))).mask_counts) == [1, 2]
    words = types_pb2.WordLists(words=["fox", "[MASK]", "dog"], word_counts=[3])
    assert list(answer(task, items_for(task, types_pb2.TextBatch(word_lists=words))).mask_counts) == [1]
    ids = types_pb2.TokenIdLists(token_ids=[7, mask, 7, mask], lengths=[2, 2])
    message = answer(task, items_for(task, types_pb2.TextBatch(token_ids=ids)))
    assert list(message.mask_positions) == [1, 1]
    assert not message.sequences


def test_some_items_of_a_message_get_their_own_candidates(stub: Stub) -> None:
    task = parse(stub("bert", "fill_mask"), top_k=3)
    rows = task.prepare(texts(*MASKED[:3]))
    all_of_them = write(task.answer(rows, whole := share_of_all(task, rows)))
    cut = {name: values[1:3] for name, values in whole.tensors.items()}
    second = write(task.answer(rows, Share(np.array([1]), np.array([1]), np.array([1]), cut)))
    assert isinstance(all_of_them, tasks_pb2.MaskCandidates)
    assert isinstance(second, tasks_pb2.MaskCandidates)
    assert list(second.mask_positions) == list(all_of_them.mask_positions)[1:3]
    assert list(second.sequences) == list(all_of_them.sequences)[3:9]


@pytest.mark.parametrize(("family", "words"), [("bert", ["fox", "[UNK]"]), ("roberta", ["Ġthe", "er"])])
def test_targets_restrict_candidates_as_in_the_pipeline(
    stub: Stub, checkpoint: Checkpoint, family: str, words: Sequence[str]
) -> None:
    model = stub(family, "fill_mask")
    asked = parse_fill_mask(tasks_pb2.FillMaskOptions(targets=words, top_k=5), model, INTERACTIVE, "options")
    assert asked.effective.top_k == 2
    task = asked.task
    message, rows = answer(task, texts(*MASKED)), task.prepare(texts(*MASKED))
    ids = np.array(AutoTokenizer.from_pretrained(checkpoint(family)).convert_tokens_to_ids(list(words)))
    size = model.description.vocabulary_size
    theirs = expected(checkpoint(family), rows, size, top_k=5, target_ids=ids)
    assert list(message.token_ids) == [each["token"] for each in theirs]
    assert np.allclose(list(message.scores), [each["score"] for each in theirs], atol=1e-6)


@pytest.mark.parametrize(
    ("family", "target", "token"),
    [
        ("bert", "FOX", "fox"),  # through the normalizer
        ("bert", "fox", "fox"),
        ("bert-cased", "The", "The"),
        ("roberta", " the", "Ġthe"),
        ("roberta", "overrascht", None),
        ("xlm-roberta", "the", "▁the"),
        ("bert", "foxdog", None),
        ("bert", "☃", None),  # is the unknown token
        ("bert", "", None),
        ("roberta", " ", "Ġ"),
    ],
)
def test_a_target_is_an_entry_of_the_vocabulary_or_one_token(
    stub: Stub, family: str, target: str, token: str | None
) -> None:
    model = stub(family, "fill_mask")
    if token is not None:
        head = parse(model, targets=[target]).output_options.head
        assert head is not None
        assert list(head.targets) == model.tokenizer.ids_of([token])
        return
    with pytest.raises(RequestError) as raised:
        parse(model, targets=["a", target])
    assert refused(raised) == ("INVALID_ARGUMENT", "INVALID_TARGET", "options.targets[1]")


def test_byte_level_targets_are_found_with_a_space_before(stub: Stub) -> None:
    model = stub("roberta", "fill_mask")
    assert model.tokenizer.ids_of(["words"]) == [None]
    head = parse(model, targets=["words"]).output_options.head
    assert head is not None
    assert list(head.targets) == model.tokenizer.ids_of(["Ġwords"])


def test_targets_and_their_ids_are_one_set(stub: Stub) -> None:
    model = stub("bert", "fill_mask")
    (fox,) = model.tokenizer.ids_of(["fox"])
    assert fox is not None
    head = parse(model, targets=["fox", "Fox"], target_ids=[fox, 3, 3]).output_options.head
    assert head is not None
    assert (head.targets, head.top_k) == ((3, fox), 2)


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        ({"top_k": -1}, "INVALID_RANGE", "options.top_k"),
        ({"top_k": 1001}, "INVALID_RANGE", "options.top_k"),
        ({"target_ids": [1, -1]}, "INVALID_TOKEN_ID", "options.target_ids[1]"),
        ({"target_ids": [1 << 20]}, "INVALID_TOKEN_ID", "options.target_ids[0]"),
        ({"target_ids": [1] * 10_001}, "REQUEST_TOO_LARGE", "options.targets"),
        ({"priority": 9}, "INVALID_ENUM", "options.priority"),
        ({"truncation": types_pb2.TruncationOptions(max_length=-1)}, "INVALID_RANGE", "options.truncation.max_length"),
    ],
)
def test_options_that_make_no_sense(stub: Stub, options: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(RequestError) as raised:
        parse(stub("bert", "fill_mask"), **options)
    assert refused(raised) == ("INVALID_ARGUMENT", reason, field)


def test_defaults_are_filled_in(stub: Stub) -> None:
    model = stub("bert", "fill_mask")
    asked = parse_fill_mask(tasks_pb2.FillMaskOptions(), model, BULK, "options")
    assert asked.task.priority == BULK
    assert asked.effective == tasks_pb2.FillMaskOptions(
        model="stub",
        truncation=types_pb2.TruncationOptions(
            strategy=types_pb2.TRUNCATION_STRATEGY_LONGEST_FIRST,
            side=types_pb2.TRUNCATION_SIDE_RIGHT,
            max_length=512,
        ),
        priority=types_pb2.PRIORITY_BULK,
        top_k=5,
    )


def test_texts_without_a_mask_fail_alone(stub: Stub) -> None:
    task = parse(stub("bert", "fill_mask"), truncation=types_pb2.TruncationOptions(max_length=6))
    rows = task.prepare(texts("a fox", "a [MASK]", "one two three four five six [MASK]"))
    assert rows.items.tolist() == [1]
    assert {index: error.reason for index, error in rows.failed.items()} == {0: "INVALID_MASK", 2: "INVALID_MASK"}
    assert rows.failed[0].violations[0].field == "inputs.texts[0]"
    assert "cut" not in rows.failed[0].message
    assert "it was cut to the maximum length" in rows.failed[2].message
    assert rows.truncated.tolist() == [False, False, True]
    message = write(task.answer(rows, share_of_all(task, rows)))
    assert isinstance(message, tasks_pb2.MaskCandidates)
    assert list(message.mask_counts) == [1]


def test_too_large_an_answer_is_known_before_anything_is_computed(stub: Stub) -> None:
    model = stub("bert", "fill_mask")
    small = replace(model, limits=replace(model.limits, max_response_bytes=1 << 20))
    sent = texts("[MASK]", "[MASK]" * 500)
    rows = parse(small, top_k=500).prepare(sent)
    assert {index: error.reason for index, error in rows.failed.items()} == {1: "REQUEST_TOO_LARGE"}
    assert rows.least_bytes is not None
    task = parse(model, top_k=20)
    whole = task.prepare(sent)
    assert whole.least_bytes is not None
    assert 0 < int(whole.least_bytes.sum()) <= answer(task, sent).ByteSize()


@pytest.mark.parametrize(("family", "sequences"), [("bert", True), ("roberta", True), ("bert", False)])
def test_other_masks_count_in_a_large_answer(stub: Stub, family: str, sequences: bool) -> None:
    task = parse(stub(family, "fill_mask"), top_k=3, omit_sequences=not sequences)
    sent = texts("[MASK]" * 60)
    rows = task.prepare(sent)
    assert rows.least_bytes is not None
    size = answer(task, sent).ByteSize()
    assert size / 2 < int(rows.least_bytes.sum()) <= size


@pytest.mark.parametrize(("family", "spelled"), [("bert", "write [MASK]"), ("roberta", "write <mask> or [MASK]")])
def test_the_error_says_how_masks_are_spelled(stub: Stub, family: str, spelled: str) -> None:
    rows = parse(stub(family, "fill_mask")).prepare(texts("a fox"))
    assert rows.failed[0].message.endswith(spelled)


def test_models_that_cannot(stub: Stub) -> None:
    for model, reason in (
        (stub("bert", "next_sentence"), "HEAD_NOT_AVAILABLE"),
        (stub("bert", "fill_mask", special_tokens={}), "HEAD_NOT_SUITABLE"),
    ):
        with pytest.raises(RequestError) as raised:
            require_mask(model.description)
        assert refused(raised)[:2] == ("FAILED_PRECONDITION", reason)


def test_a_head_that_is_not_there_says_which_are(stub: Stub) -> None:
    with pytest.raises(RequestError) as raised:
        parse(stub("bert", "next_sentence", "multiple_choice"))
    assert raised.value.metadata == {"head": "fill_mask", "heads": "next_sentence, multiple_choice"}
