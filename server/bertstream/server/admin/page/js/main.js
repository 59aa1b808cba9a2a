// Puts the page together: tabs, live numbers, the playground.

import { setText } from "./dom.js";
import { follow } from "./live/feed.js";
import { LiveView } from "./live/view.js";
import { Playground } from "./playground/view.js";
import { Tabs } from "./tabs.js";

const main = document.getElementById("main");
const state = document.getElementById("state");
const address = document.getElementById("address");
const live = new LiveView();
const playground = new Playground((ids) => {
  tabs.show(["live", ...ids]);
  remember();
});
const tabs = new Tabs(document.getElementById("tabs"), (id) => {
  if (id === "live") live.draw();
  else playground.shown(id);
  remember();
});
let served = null;

// The place is in the address, so that it can be kept and sent: #attention/model.
function remember() {
  if (!tabs.selected) return;
  const model = tabs.selected === "live" || !playground.model ? "" : `/${encodeURIComponent(playground.model.name)}`;
  if (location.hash !== `#${tabs.selected}${model}`) history.replaceState(null, "", `#${tabs.selected}${model}`);
}

function goTo(hash) {
  const [id, model = ""] = hash.slice(1).split("/");
  if (model) playground.choose(decodeURIComponent(model));
  tabs.select(id || "live");
}

function takeNumbers(numbers) {
  const { server } = numbers;
  playground.server.address = server.address;
  setText(address, `${server.address}\nversion ${server.version}`);
  live.take(numbers);
  const models = JSON.stringify(numbers.models.map(({ name, revision, state: now }) => [name, revision, now]));
  if (served !== null && models !== served) playground.load();
  served = models;
}

function takeState(now, text) {
  state.dataset.state = now;
  setText(state.firstElementChild, text);
  live.setLive(now === "live");
}

tabs.add("live", "Live", live.element);
tabs.addGroup("Playground");
for (const [id, panel] of playground.panels) tabs.add(id, panel.spec.title, panel.element);
main.append(live.element, ...[...playground.panels.values()].map((panel) => panel.element));
const wanted = location.hash;
tabs.show(["live"]);
follow(takeNumbers, takeState);
await playground.load();
goTo(wanted);
addEventListener("hashchange", () => goTo(location.hash));
