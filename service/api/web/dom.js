// Builds elements, and fills a place anew without taking the keyboard's focus away.

/** A new element: attributes by name, listeners as `onclick`, children as elements or text; null is left out. */
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

/** Put these children in the place of what is there; what had the focus has it again, if its id is still there. */
export function fill(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

/** Calls `draw` only when what it draws has changed since the last time; compared as JSON. */
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
