// Creates elements, and replaces content without losing the keyboard focus.

/** Create an element: attributes by name, listeners as `onclick`, children as elements or text; null is ignored. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Replace the children; the element with the focus keeps it if its id still exists. */
export function fill(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

/** Call `draw` only when its argument has changed since the last call; compared as JSON. */
export function whenChanged(draw) {
  let before;
  return (data, ...rest) => {
    const now = JSON.stringify(data);
    if (now === before) return;
    before = now;
    draw(data, ...rest);
  };
}

export const byId = (id) => document.getElementById(id);
