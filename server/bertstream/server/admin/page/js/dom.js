// Makes and updates elements. Texts become text nodes and nothing else, wherever they come from.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an HTML element. Functions are listeners, names that begin with "--" custom properties, null is left out. */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Makes an SVG element, likewise. */
export function s(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets an element's text, and touches nothing where it is the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keeps one child for each item, in their order: made once, then updated in place.
 * `make(item)` returns an element, and `update(element, item)` brings it up to date.
 */
export function keyed(container, items, keyOf, make, update) {
  const there = new Map([...container.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const key = String(keyOf(item));
    let child = there.get(key);
    if (child) there.delete(key);
    else {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (container.children[place] !== child) container.insertBefore(child, container.children[place] ?? null);
  });
  for (const gone of there.values()) gone.remove();
}

/** Lets arrow keys move the focus among the elements that match, of which one at a time is reached by Tab. */
export function roving(container, selector, columns = () => 1) {
  const all = () => [...container.querySelectorAll(selector)];
  const enter = (element) => {
    for (const each of all()) each.tabIndex = each === element ? 0 : -1;
  };
  container.addEventListener("focusin", (event) => {
    const element = event.target.closest(selector);
    if (element) enter(element);
  });
  container.addEventListener("keydown", (event) => {
    const elements = all();
    const from = elements.indexOf(event.target.closest(selector));
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns(),
      ArrowUp: -columns(),
      Home: -from,
      End: elements.length - 1 - from,
    };
    if (from < 0 || !(event.key in steps) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    elements[from + steps[event.key]]?.focus();
  });
  const [first] = all();
  if (first) enter(first);
}
