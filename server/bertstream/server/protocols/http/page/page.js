// Shows the OpenAPI document, and sends what is written into its examples.

const MOST_SHOWN = 20_000; // characters of an answer

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function curl(path, body) {
  const data = body === null ? "" : ` \\\n    -d '${body.replaceAll("'", "'\\''")}'`;
  const key = document.getElementById("key").value && ` -H "authorization: Bearer $KEY"`;
  return `curl ${location.origin}${path}${key}${data}`;
}

async function send(method, path, body) {
  const key = document.getElementById("key").value;
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const answer = await fetch(path, { method, headers, body });
  const text = (await answer.text()).slice(0, MOST_SHOWN);
  return `${answer.status}\n${text}`;
}

function endpoint(path, method, operation) {
  const example = operation.requestBody?.content["application/json"].example;
  const body = example === undefined ? null : element("textarea", { value: JSON.stringify(example, null, 2) });
  const places = [...path.matchAll(/{(\w+)}/g)].map(([place, name]) => [place, element("input", { placeholder: name })]);
  const shown = element("pre"), given = element("pre", { hidden: true });
  const written = () => (body === null ? null : body.value);
  const filled = () => places.reduce((made, [place, input]) => made.replace(place, encodeURI(input.value)), path);
  const show = () => { shown.textContent = curl(filled(), written()); };
  const button = element("button", { textContent: "Send" });
  button.addEventListener("click", async () => {
    given.hidden = false;
    given.textContent = "…";
    given.textContent = await send(method, filled(), written()).catch(String);
  });
  for (const input of [body, document.getElementById("key"), ...places.map(([, input]) => input)])
    input?.addEventListener("input", show);
  show();
  const title = element("summary", {}, element("code", { textContent: `${method} ${path}` }), operation.summary);
  return element("details", {}, title, ...places.map(([, input]) => input), ...(body ? [body] : []), shown, button, given);
}

const described = await (await fetch("/openapi.json")).json();
document.getElementById("about").prepend(`${described.info.description} Version ${described.info.version}. `);
document.getElementById("endpoints").append(
  ...Object.entries(described.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => endpoint(path, method.toUpperCase(), operation))),
);
