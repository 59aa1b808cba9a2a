// Tasks whose answers are parts of a text: entities, and answers to questions.

import { h } from "../dom.js";
import { percent } from "../format.js";
import { bars, hasHead, marked, needed, texts } from "./parts.js";

const HUES = 5;

export const entities = {
  id: "entities",
  title: "Entities",
  about: "Names and the like that the model finds in a text, each with its label.",
  rpc: "TaskService/ClassifyTokens",
  fits: hasHead("token_classification"),
  fields: [
    {
      name: "text",
      kind: "area",
      label: "Text",
      rows: 4,
      value: "Angela Merkel met Barack Obama in Berlin, before he flew on to Paris and spoke to the United Nations.",
    },
  ],
  request: ({ text }, model) => ({
    options: { model: model.name, offsetUnit: "OFFSET_UNIT_UTF16_UNITS" },
    inputs: texts(needed(text, "a text")),
  }),
  command: ({ text }, model) => [["entities", "--model", model.name], [text]],
  show: ({ entities: found }, { values }) => entitiesIn(values.text, found),
};

export const namedEntities = {
  id: "entities-by-label",
  title: "Entities by label",
  about: "What you name, wherever the model finds it in a text.",
  rpc: "TaskService/ClassifyTokens",
  fits: hasHead("zero_shot_entities"),
  fields: [
    { name: "text", kind: "area", label: "Text", rows: 3, value: "Angela Merkel bought two kilos of plums in Berlin." },
    {
      name: "labels",
      kind: "lines",
      label: "Labels, one a line",
      rows: 3,
      value: ["politician", "fruit", "city"],
    },
    { name: "threshold", kind: "number", label: "Least score", value: 0.5, min: 0.01, max: 0.99, step: 0.01 },
  ],
  request: ({ text, labels, threshold }, model) => ({
    options: {
      model: model.name,
      labels: needed(labels, "some labels"),
      threshold: threshold ?? 0.5,
      offsetUnit: "OFFSET_UNIT_UTF16_UNITS",
    },
    inputs: texts(needed(text, "a text")),
  }),
  command: ({ text, labels, threshold }, model) => [
    ["entities", "--model", model.name, "--labels", labels.join(","), "--threshold", String(threshold ?? 0.5)],
    [text],
  ],
  show: ({ entities: found }, { values }) => entitiesIn(values.text, found),
};

/** Marks the entities of an answer in their text, and counts those of each label. */
function entitiesIn(text, found) {
  const labels = [...new Set(found.labels ?? [])].sort();
  const hue = (label) => `hue-${labels.indexOf(label) % HUES}`;
  const spans = (found.labels ?? []).map((label, i) => ({
    start: found.starts?.[i] ?? 0,
    end: found.ends[i],
    make: (part) =>
      h(
        "mark",
        { class: `entity ${hue(label)}`, title: percent(found.scores[i], 1) },
        part,
        h("span", { class: "label" }, label),
      ),
  }));
  const counts = labels.map((label) =>
    h("li", { class: `chip ${hue(label)}` }, label, ` ${found.labels.filter((each) => each === label).length}`),
  );
  const none = h("p", { class: "muted" }, "Nothing was found.");
  return h(
    "div",
    { class: "card stack" },
    marked(text, spans),
    labels.length ? h("ul", { class: "tasks" }, ...counts) : none,
  );
}

export const answers = {
  id: "answers",
  title: "Answers",
  about: "Where in a context the answer to a question stands.",
  rpc: "TaskService/AnswerQuestions",
  fits: hasHead("question_answering"),
  fields: [
    { name: "question", kind: "text", label: "Question", value: "What does the fox jump over?" },
    {
      name: "context",
      kind: "area",
      label: "Context",
      rows: 5,
      value:
        "The quick brown fox jumps over the lazy dog, and then it sleeps in the sun for a while. Nobody has seen the dog since.",
    },
    { name: "topK", kind: "number", label: "Answers", value: 3, min: 1, max: 20 },
  ],
  request: ({ question, context, topK }, model) => ({
    options: { model: model.name, topK: topK ?? 3, offsetUnit: "OFFSET_UNIT_UTF16_UNITS" },
    inputs: { firstTexts: [needed(question, "a question")], secondTexts: [needed(context, "a context")] },
  }),
  command: ({ question, context, topK }, model) => [
    ["answer", "--model", model.name, "--top-k", String(topK ?? 3)],
    [question, context],
  ],
  show({ answers: found }, { values }) {
    const count = found.answerCounts?.[0] ?? 0;
    const passage = h("div", { class: "card" });
    const choose = (i) => {
      const span = {
        start: found.starts?.[i] ?? 0,
        end: found.ends?.[i] ?? 0,
        make: (part) => h("mark", { class: "answer" }, part),
      };
      passage.replaceChildren(marked(values.context, count ? [span] : []));
    };
    choose(0);
    const entries = Array.from({ length: count }, (_, i) => [found.texts[i] || "no answer", found.scores[i]]);
    const list = bars(entries, (i) => ({
      click: () => choose(i),
      focus: () => choose(i),
      pointerenter: () => choose(i),
    }));
    return h("div", { class: "stack" }, passage, h("div", { class: "card" }, list));
  },
};
