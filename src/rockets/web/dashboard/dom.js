// Makes elements. Texts are always text nodes, so nothing that a message says can become markup.

/** Make an element: attributes by name, listeners by `onclick` and the like, children in order. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** Change the text of an element, unless it is there already: a change costs a layout. */
export function setText(changed, text) {
  if (changed.textContent !== text) changed.textContent = text;
}

/** A link within the dashboard; `main` follows it without loading the page again. */
export function link(url, text, attributes = {}) {
  return element("a", { href: url, ...attributes }, text);
}

/** Wait with calling until nobody has called for so many milliseconds. */
export function settled(action, ms) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), ms);
  };
}
