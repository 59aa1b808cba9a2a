// Requests to this server, with the key that it asks for, if it does.

const KEPT = "bertstream-key";
let asking = null;

export const usesKey = () => sessionStorage.getItem(KEPT) !== null;

/** Fetches; asks for a key where the server wants one, and tries again with it. */
export async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEPT);
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    if (response.status !== 401) return response;
    // A key that another request has brought meanwhile is tried before anybody is asked again.
    if (key === sessionStorage.getItem(KEPT)) await askForKey(key ? "This server does not know that key." : "");
  }
}

/** Has the key thrown away and another one asked for. */
export function askForKey(reason) {
  asking ??= show(reason).finally(() => {
    asking = null;
  });
  return asking;
}

function show(reason) {
  const dialog = document.getElementById("key-dialog");
  const field = document.getElementById("key");
  document.getElementById("key-reason").textContent = reason;
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.oncancel = (event) => event.preventDefault(); // there is nothing to see without a key
    dialog.onclose = () => {
      if (!field.value.trim()) return dialog.showModal();
      sessionStorage.setItem(KEPT, field.value.trim());
      field.value = "";
      return resolve();
    };
  });
}
