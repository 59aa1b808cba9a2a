from __future__ import annotations

from bertstream.server.core.sent import Sent, in_parts
from bertstream.server.core.tokenization import Pairs, Texts


def test_the_path_of_an_item() -> None:
    sent = Sent(Texts(["a", "b", "c"]), "inputs", "inputs.texts")
    assert sent.at(2) == "inputs.texts[2]"
    assert [part.at(0) for part in in_parts(sent, 2)] == ["inputs.texts[0]", "inputs.texts[2]"]


def test_the_paths_of_the_texts_of_a_pair() -> None:
    apart = Sent(Pairs(["a"] * 2, ["b", "c"]), "documents", "documents", of_pairs=("query", "documents[]"))
    assert [apart.at(1, sequence) for sequence in (None, 0, 1)] == ["documents[1]", "query", "documents[1]"]
    together = Sent(Pairs(["a"], ["b"]), "inputs", "inputs.pairs")
    assert [together.at(0, sequence) for sequence in (0, 1)] == ["inputs.pairs[0]"] * 2


def test_an_item_that_is_no_list_has_no_index() -> None:
    assert Sent(Texts(["a"]), "inputs", "inputs", single=True).at(0) == "inputs"
