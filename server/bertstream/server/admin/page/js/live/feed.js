// Follows the server's live numbers, and connects again where that breaks.

import { eventsOf } from "../events.js";
import { askForKey, request, usesKey } from "../session.js";

const SILENCE_SECONDS = 5; // numbers come once a second
const LONGEST_WAIT_SECONDS = 8;

/**
 * Calls `onNumbers(numbers)` with each event of /api/live, for ever, and `onState(state, text)` where the state
 * changes: "connecting", "live" or "lost".
 */
export async function follow(onNumbers, onState) {
  let failures = 0;
  onState("connecting", "Connecting");
  for (;;) {
    try {
      await read((numbers) => {
        failures = 0;
        onState("live", "Connected");
        onNumbers(numbers);
      });
    } catch {
      // Whatever it was, the remedy is the same.
    }
    const wait = Math.min(2 ** failures, LONGEST_WAIT_SECONDS);
    failures += 1;
    onState("lost", "Connection lost, trying again");
    await pause(wait);
  }
}

async function read(take) {
  const abort = new AbortController();
  let timer;
  const listen = () => {
    clearTimeout(timer);
    timer = setTimeout(() => abort.abort(), SILENCE_SECONDS * 1000);
  };
  try {
    const response = await request("api/live", { signal: abort.signal });
    if (response.status === 403 && usesKey()) await askForKey("That key has not the role admin.");
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    listen();
    for await (const event of eventsOf(response)) {
      listen();
      take(JSON.parse(event.data));
    }
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

/** Waits; not longer than until the network is back, or somebody looks at the page again. */
function pause(wait) {
  return new Promise((resolve) => {
    const wake = () => {
      clearTimeout(timer);
      removeEventListener("online", wake);
      document.removeEventListener("visibilitychange", seen);
      resolve();
    };
    const seen = () => document.visibilityState === "visible" && wake();
    const timer = setTimeout(wake, wait * 1000);
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", seen);
  });
}
