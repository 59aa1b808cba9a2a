"""What the panels show is what a client gets; and a panel shows only where its model can do it."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from playwright.sync_api import expect

from bertstream.cli import main
from bertstream.client import Client
from tests.e2e.page.conftest import Open

ALWAYS = ["live", "tokens", "similarity", "attention", "hidden-states"]
PANELS = {
    "all-MiniLM-L6-v2": [],
    "bert-base-uncased": ["fill-mask", "next-sentence"],
    "nli": ["classify", "zero-shot"],
    "reranker": ["rerank"],
    "ner": ["entities"],
    "qa": ["answers"],
    "choice": ["choices"],
    "gliner": ["entities-by-label"],
    "sentiment": ["classify"],
    "writer": ["generate"],
    "summarizer": ["generate"],
}
OWN_PLACES = [f"{panel}/{model}" for model, panels in PANELS.items() for panel in panels]
HOSTILE = '<img src=x onerror="window.harmed=1"> &amp; <b>bold</b> \u202e'
TEXT = "Größere Straßen 😀 lead <b>somewhere</b>"


def percent(share: float) -> str:
    return f"{share * 100:.1f}%"


def test_a_panel_shows_where_the_model_has_what_it_needs(look: Open, served: Client) -> None:
    view = look("tokens")
    options = view.page.locator("#model option").all_inner_texts()
    assert options == list(PANELS) == [model.name for model in served.models()]
    for name, panels in PANELS.items():
        view.page.locator("#model").select_option(name)
        expect(view.tab("tokens")).to_be_visible()
        assert sorted(view.tabs) == sorted([*ALWAYS, *panels])
        assert view.evaluate("location.hash") == f"#tokens/{name}"


def test_a_panel_that_the_next_model_lacks_gives_way(look: Open) -> None:
    view = look("entities/ner")
    view.page.locator("#model").select_option("qa")
    expect(view.tab("live")).to_have_attribute("aria-selected", "true")


def test_tokens_and_the_text_show_each_other(look: Open, served: Client) -> None:
    view = look("tokens/ner")
    (expected,) = served.tokenize([TEXT], model="ner")
    view.fill(text=TEXT)
    chips = view.find(".token")
    expect(chips).to_have_count(len(expected.tokens))  # without being sent
    assert chips.locator(".spelling").all_inner_texts() == expected.tokens
    assert chips.locator(".id").all_inner_texts() == [str(number) for number in expected.token_ids]
    assert chips.locator("xpath=.").evaluate_all("all => all.map((each) => each.classList.contains('special'))") == [
        bool(special) for special in expected.special_tokens_mask
    ]
    marked = view.find("mark.span").all_inner_texts()
    assert marked == [TEXT[start:end] for start, end in expected.offsets if end > start]
    place = next(i for i, (start, _) in enumerate(expected.offsets) if start > TEXT.index("😀"))
    chips.nth(place).hover()
    start, end = expected.offsets[place]
    expect(view.find("mark.is-chosen")).to_have_text(TEXT[start:end])
    units = len(TEXT[:start].encode("utf-16-le")) // 2
    expect(view.find(".readout")).to_contain_text(f"id {expected.token_ids[place]}, character")
    expect(view.find(".readout")).to_contain_text(f" {units}")
    chips.first.focus()
    view.page.keyboard.press("ArrowRight")
    expect(chips.nth(1)).to_be_focused()
    expect(view.find("mark.is-chosen")).to_have_text(marked[0])


def test_similarities_are_cosines(look: Open, served: Client) -> None:
    texts = ["A cat sleeps.", "A kitten naps.", "Rates rise."]
    view = look("similarity/all-MiniLM-L6-v2")
    cells = view.run(texts="\n".join(["", *texts, " "])).locator("tbody td")
    vectors = served.encode(texts, normalize=True)
    shown = np.array([float(cell) for cell in cells.all_inner_texts()]).reshape(3, 3)
    np.testing.assert_allclose(shown, vectors @ vectors.T, atol=0.0051)


def test_candidates_for_masks(look: Open, served: Client) -> None:
    text = "The quick [MASK] fox [MASK]."
    view = look("fill-mask/bert-base-uncased")
    view.run(text=text, topK="3")
    expected = [each for mask in served.fill_mask(text, model="bert-base-uncased", top_k=3) for each in mask]
    assert view.bars == [(each.token, percent(each.score)) for each in expected]
    view.find(".bar-row").nth(4).click()
    expect(view.find(".result .readout")).to_have_text(expected[4].sequence)


def test_entities_are_marked_in_the_text(look: Open, served: Client) -> None:
    view = look("entities/ner")
    text = "😀 Angela Merkel met Barack Obama in Berlin."
    view.run(text=text)
    expected = served.entities(text, model="ner")
    found = view.find("mark.entity").evaluate_all("all => all.map((e) => [e.firstChild.data, e.lastChild.textContent])")
    assert found == [[text[each.start : each.end], each.label] for each in expected]
    assert len(found) > 0


def test_entities_are_marked_by_labels_of_ones_own(look: Open, served: Client) -> None:
    view = look("entities-by-label/gliner")
    text, labels = "😀 Angela Merkel met Barack Obama in Berlin.", ["politician", "city"]
    view.run(text=text, labels="\n".join(labels), threshold="0.3")
    expected = served.entities(text, labels=labels, threshold=0.3, model="gliner")
    found = view.find("mark.entity").evaluate_all("all => all.map((e) => [e.firstChild.data, e.lastChild.textContent])")
    assert found == [[text[each.start : each.end], each.label] for each in expected]
    assert len(found) > 0


def test_answers_are_marked_in_the_context(look: Open, served: Client) -> None:
    question, context = "What does it jump over?", "😀 The quick brown fox jumps over the lazy dog."
    view = look("answers/qa")
    view.run(question=question, context=context, topK="2")
    expected = served.answer(question, context, top_k=2, model="qa")
    assert view.bars == [(each.text, percent(each.score)) for each in expected]
    expect(view.find("mark.answer")).to_have_text(context[expected[0].start : expected[0].end])
    view.find(".bar-row").nth(1).hover()
    expect(view.find("mark.answer")).to_have_text(context[expected[1].start : expected[1].end])


def test_labels_choices_and_relevances(look: Open, served: Client) -> None:
    view = look("classify/sentiment")
    view.run(text="I love it.")
    assert view.bars == [(e.label, percent(e.score)) for e in served.classify("I love it.", model="sentiment")]
    view.go("zero-shot/nli")
    view.run(text="It rains.", labels="sport\nweather")
    found = served.zero_shot("It rains.", ["sport", "weather"], model="nli")
    assert view.bars == [(each.label, percent(each.score)) for each in found]
    view.go("choices/choice")
    view.run(prompt="The fox", choices="jumps\nsleeps")
    shares = served.choose("The fox", ["jumps", "sleeps"], model="choice")
    assert view.bars == [("jumps", percent(shares[0])), ("sleeps", percent(shares[1]))]
    view.go("next-sentence/bert-base-uncased")
    view.run(first="It rains.", second="I am wet.")
    share = served.next_sentence("It rains.", "I am wet.", model="bert-base-uncased")
    assert view.bars == [("It follows", percent(share))]
    view.go("rerank/reranker")
    documents = ["one day", "the fox", "a lazy dog"]
    view.run(query="fox", documents="\n".join(documents))
    ranked = served.rerank("fox", documents, model="reranker")
    assert view.bars == [(documents[each.index], f"{each.score:.3f}") for each in ranked]


@pytest.mark.parametrize("model", ["writer", "summarizer"])
def test_text_is_written_as_it_comes(look: Open, served: Client, model: str) -> None:
    view = look(f"generate/{model}")
    view.run(prompt="The quick brown fox", tokens="12", seed="3")
    expected = served.generate(
        "The quick brown fox", model=model, max_new_tokens=12, do_sample=True, temperature=0.8, top_p=0.95, seed=3
    )
    shown = view.find(".passage").text_content()
    assert shown == ("The quick brown fox" if model == "writer" else "") + expected.text
    expect(view.find(".result .hint")).to_contain_text(f"{len(expected.token_ids)} tokens")


# Presses Stop as soon as anything is written; a tiny model would have ended before a person could.
STOP = """() => new MutationObserver((_, observer) => {
  const stop = [...document.querySelectorAll("button")].find((each) => each.textContent === "Stop" && !each.hidden);
  if (!stop || !/^[1-9]/.test(document.querySelector(".written .hint")?.textContent)) return;
  observer.disconnect();
  stop.click();
}).observe(document.body, { subtree: true, childList: true, characterData: true })"""


def test_writing_can_be_stopped(look: Open) -> None:
    view = look("generate/writer")
    view.fill(tokens="500", seed="1")
    view.evaluate(STOP)
    view.find('button[type="submit"]').click()
    expect(view.find(".status")).to_have_text("Stopped")
    assert 0 < int(view.find(".result .hint").inner_text().split()[0]) < 500
    expect(view.find("button", has_text="Stop")).to_be_hidden()
    view.run(tokens="3")


def test_attention_of_every_head(look: Open, served: Client) -> None:
    text = "The quick brown fox"
    view = look("attention/ner")
    view.run(text=text)
    model = served.model("ner")
    (output,) = served.forward([text], outputs=("attentions",), model="ner")
    expect(view.find(".thumb")).to_have_count(model.layers * model.attention_heads)
    expect(view.find(".thumb:disabled")).to_have_count(0)
    view.find('.thumb[data-layer="2"][data-head="0"]').click()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp"):
        view.page.keyboard.press(key)
    expect(view.find('.thumb[aria-selected="true"]')).to_have_attribute("aria-label", "Layer 3, head 1")
    expect(view.find(".attention-detail h3").first).to_have_text("Layer 3, head 1: matrix")
    weights = output.attentions[3][1]
    cell = 20
    view.find(".pixel-field").hover(position={"x": 2.5 * cell, "y": 1.5 * cell})
    tokens = served.tokenize([text], model="ner")[0].tokens
    expect(view.find(".heat .readout")).to_have_text(f"{tokens[1]} attends to {tokens[2]}: {weights[1, 2]:.3f}")
    assert view.find(".lines line:not(.is-off)").count() == int((weights[1] >= 0.02).sum())
    pixels = view.find(".pixel-field canvas").evaluate("(canvas) => [canvas.width, canvas.height]")
    assert pixels == [len(tokens), len(tokens)]


def test_hidden_states_of_every_layer(look: Open, served: Client) -> None:
    text = "The quick brown fox"
    view = look("hidden-states/ner")
    view.run(text=text)
    states = served.forward([text], outputs=("hidden_states",), model="ner")[0].hidden_states
    tokens = served.tokenize([text], model="ner")[0].tokens
    length = view.find(".heat").nth(1)
    length.locator(".pixel-field").hover(position={"x": 1.5 * 15, "y": 3.5 * 18})
    norm = np.linalg.norm(states[3][1])
    expect(length.locator(".readout")).to_have_text(f"{tokens[1]} after layer 3: {norm:.2f}")
    slider = view.find("#strip-layer")
    expect(slider).to_have_value(str(len(states) - 1))
    slider.press("ArrowLeft")
    expect(view.find("output")).to_have_text(str(len(states) - 2))
    canvas = view.find(".heat").first.locator("canvas")
    expect(canvas).to_have_attribute("aria-label", f"States after layer {len(states) - 2}")
    assert canvas.evaluate("(each) => [each.width, each.height]") == [states[0].shape[1], len(tokens)]


def test_errors_say_what_the_server_says(look: Open) -> None:
    view = look("fill-mask/bert-base-uncased")
    view.fill(text="no mask at all")
    view.find('button[type="submit"]').click()
    expect(view.find(".error")).to_contain_text("INVALID_ARGUMENT · INVALID_MASK")
    assert view.find(".error").get_attribute("role") == "alert"
    view.fill(text="  ")
    view.find('button[type="submit"]').click()
    expect(view.find(".error")).to_have_text("Write a text with [MASK] first.")
    view.run(text="one [MASK]")
    expect(view.find(".error")).to_be_hidden()
    assert [line for line in view.troubles if "400" not in line] == []
    view.troubles.clear()  # the browser itself notes the answer with an error


def test_texts_are_never_html(look: Open) -> None:
    view = look("tokens/ner")
    view.run(text=HOSTILE)
    assert view.find(".passage").inner_text() == HOSTILE
    assert view.find("img, b").count() == 0


@pytest.mark.parametrize(
    "place",
    [*OWN_PLACES, "tokens/ner", "similarity/all-MiniLM-L6-v2", "attention/ner", "hidden-states/ner"],
)
def test_the_call_that_is_shown_can_be_made_elsewhere_whatever_the_text(
    look: Open, documented: str, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    view = look(place)
    for field in view.find("textarea").all():
        field.fill(f"It's {HOSTILE} [MASK].\n-x")
    view.run()
    view.find("summary").click()
    assert view.find("img, b").count() == 0
    assert view.evaluate("window.harmed") is None
    expect(view.find(".call-part code").last).not_to_be_empty()  # it is written once the part has opened
    method, request, command, grpcurl = view.find(".call-part code").all_inner_texts()
    words = shlex.split(command)
    assert words[0] == "bertstream"
    words[words.index("--address") + 1] = documented
    assert main(words[1:]) == 0
    assert capsys.readouterr().out != ""
    curl = shlex.split(grpcurl)
    assert (curl[0], curl[-1]) == ("grpcurl", method)
    assert json.loads(curl[curl.index("-d") + 1]) == json.loads(request)
