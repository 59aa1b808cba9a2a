from __future__ import annotations

from bertstream.server.core.sent import Sent, in_parts
from bertstream.server.core.tokenization import Texts


def test_the_path_of_an_item() -> None:
    sent = Sent(Texts(["a", "b", "c"]), "inputs", "inputs.texts")
    assert sent.at(2) == "inputs.texts[2]"
    assert [part.at(0) for part in in_parts(sent, 2)] == ["inputs.texts[0]", "inputs.texts[2]"]


def test_an_item_that_is_no_list_has_no_index() -> None:
    assert Sent(Texts(["a"]), "inputs", "inputs", single=True).at(0) == "inputs"
