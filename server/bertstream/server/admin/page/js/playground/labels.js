// Tasks that score something as a whole: labels, choices, documents, the next sentence.

import { h } from "../dom.js";
import { decimal } from "../format.js";
import { bars, hasHead, needed, texts } from "./parts.js";

const classifies = hasHead("sequence_classification");
const card = (...children) => h("div", { class: "card" }, ...children);

export const classify = {
  id: "classify",
  title: "Classify",
  about: "The labels that the model was trained to give to a text.",
  rpc: "TaskService/ClassifyTexts",
  fits: (model) => classifies(model) && (model.labels ?? []).length > 1,
  fields: [
    {
      name: "text",
      kind: "area",
      label: "Text",
      rows: 3,
      value: "The second half was slow, and still I would see it again.",
    },
  ],
  request: ({ text }, model) => ({ options: { model: model.name }, inputs: texts(needed(text, "a text")) }),
  command: ({ text }, model) => [["classify", "--model", model.name], [text]],
  show: ({ labels }) => card(bars(labels.labelIds.map((id, i) => [labels.labels[id], labels.scores[i]]))),
};

export const zeroShot = {
  id: "zero-shot",
  title: "Zero-shot",
  about: "Labels of your own: each is made a sentence, and the model says whether the text entails it.",
  rpc: "TaskService/ClassifyZeroShot",
  fits: (model) =>
    classifies(model) &&
    model.labels.length > 1 &&
    model.labels.some((label) => label.toLowerCase().startsWith("entail")),
  fields: [
    { name: "text", kind: "area", label: "Text", rows: 3, value: "The match ended in a draw after extra time." },
    {
      name: "labels",
      kind: "lines",
      label: "Labels, one a line",
      rows: 4,
      value: ["sport", "politics", "weather", "cooking"],
    },
    { name: "multi", kind: "check", label: "Several may be true", value: false },
  ],
  request: ({ text, labels, multi }, model) => ({
    options: { model: model.name, labels: needed(labels, "some labels"), multiLabel: multi },
    inputs: { texts: [needed(text, "a text")] },
  }),
  command: ({ text, labels, multi }, model) => [
    ["zero-shot", "--model", model.name, "--labels", labels.join(","), ...(multi ? ["--multi-label"] : [])],
    [text],
  ],
  show: ({ labels }, { values }) =>
    card(bars(labels.labelIndexes.map((index, i) => [values.labels[index], labels.scores[i]]))),
};

export const choices = {
  id: "choices",
  title: "Choices",
  about: "Which of several endings fits best.",
  rpc: "TaskService/ChooseAnswers",
  fits: hasHead("multiple_choice"),
  fields: [
    { name: "prompt", kind: "text", label: "Beginning", value: "He opened the umbrella since" },
    {
      name: "choices",
      kind: "lines",
      label: "Choices, one a line",
      rows: 4,
      value: ["it had begun to rain.", "it was Monday.", "he was hungry."],
    },
  ],
  request: ({ prompt, choices: given }, model) => ({
    options: { model: model.name },
    inputs: { prompts: [prompt], choices: needed(given, "some choices"), choiceCounts: [given.length] },
  }),
  command: ({ prompt, choices: given }, model) => [
    ["choose", "--model", model.name],
    [prompt, ...given],
  ],
  show: (answer, { values }) => card(bars(answer.choices.probabilities.map((share, i) => [values.choices[i], share]))),
};

export const rerank = {
  id: "rerank",
  title: "Rerank",
  about: "Documents by their relevance to a query, as a cross-encoder sees it.",
  rpc: "TaskService/RerankTexts",
  fits: (model) => classifies(model) && (model.labels ?? []).length === 1,
  fields: [
    { name: "query", kind: "text", label: "Query", value: "How many people live in Berlin?" },
    {
      name: "documents",
      kind: "lines",
      label: "Documents, one a line",
      rows: 4,
      value: ["Berlin has 3.7 million people.", "Berlin is an old city on the Spree.", "The museum opens at nine."],
    },
  ],
  request: ({ query, documents }, model) => ({
    options: { model: model.name },
    query: needed(query, "a query"),
    documents: needed(documents, "some documents"),
  }),
  command: ({ query, documents }, model) => [
    ["rerank", "--model", model.name],
    [query, ...documents],
  ],
  show({ documentIndexes, scores }, { values }) {
    const [least, most] = [Math.min(0, ...scores), Math.max(1, ...scores)]; // a checkpoint may give raw numbers
    return card(
      bars(
        scores.map((score, i) => [
          values.documents[documentIndexes?.[i] ?? 0],
          (score - least) / (most - least),
          decimal(score, 3),
        ]),
      ),
    );
  },
};

export const nextSentence = {
  id: "next-sentence",
  title: "Next sentence",
  about: "How probable it is that a text follows another.",
  rpc: "TaskService/PredictNextSentences",
  fits: hasHead("next_sentence"),
  fields: [
    { name: "first", kind: "text", label: "First text", value: "He opened the umbrella." },
    { name: "second", kind: "text", label: "Text that may follow", value: "It had begun to rain." },
  ],
  request: ({ first, second }, model) => ({
    options: { model: model.name },
    inputs: { pairs: { firstTexts: [first], secondTexts: [second] } },
  }),
  command: ({ first, second }, model) => [
    ["next-sentence", "--model", model.name],
    [first, second],
  ],
  show: ({ nextSentences }) => card(bars([["It follows", nextSentences.probabilities[0]]])),
};
