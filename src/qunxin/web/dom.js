// Elements from plain values. Text is always a text node: nothing that anybody wrote becomes markup.

/** An element. `on…` are handlers; true is an attribute without a value; false and null
 * are left out, the rest are attributes. Children: nodes, or anything else as text; null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = {
  back: ["M15 5l-7 7 7 7"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  plus: ["M12 5v14", "M5 12h14"],
  people: ["M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7z", "M2.5 20a6.5 6.5 0 0 1 13 0", "M16 4.5a3.5 3.5 0 0 1 0 6.5", "M18 14.2a6.5 6.5 0 0 1 3.5 5.8"],
  send: ["M12 19V5", "M5.5 11.5L12 5l6.5 6.5"],
  out: ["M14 4h4a2 2 0 0 1 2 2v12a2 2 0 0 1-2 2h-4", "M10 16l-4-4 4-4", "M6 12h9"],
};

/** A button that shows a shape and says `label`. */
export function iconButton(shape, label, onclick, attributes = {}) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  for (const line of SHAPES[shape]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...attributes }, svg);
}

/** A name's first letter on a colour of its own. */
export function face(id, name, kind = "") {
  const letters = new Intl.Segmenter().segment(name.trim() || id);
  const first = [...letters][0]?.segment.toUpperCase() ?? "?";
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + letter.codePointAt(0)) % 8;
  return h("span", { class: `face hue-${sum} ${kind}`, "aria-hidden": "true" }, first);
}

export function mark() {
  return h("img", { class: "mark", src: "/assets/icon.svg", alt: "" });
}

/** Make `parent` hold exactly the elements of `rows` ([key, signature, make]), in order. Those whose
 * signature is the same stay as they are, with their focus. */
export function sync(parent, rows) {
  const known = (parent.known ??= new Map());
  const wanted = new Map();
  for (const [key, signature, make] of rows) {
    const old = known.get(key);
    if (old?.signature === signature) wanted.set(key, old);
    else {
      const element = make();
      old?.element.replaceWith(element);
      wanted.set(key, { signature, element });
    }
  }
  for (const [key, { element }] of known) if (!wanted.has(key)) element.remove();
  let place = parent.firstChild;
  for (const { element } of wanted.values()) {
    if (element === place) place = place.nextSibling;
    else parent.insertBefore(element, place);
  }
  parent.known = wanted;
}

/** A button that asks once more before it acts. */
export function careful(label, again, act, attributes = {}) {
  let timer;
  const button = h("button", { type: "button", ...attributes, onclick: () => {
    if (timer) {
      clearTimeout(timer);
      act();
      return;
    }
    button.textContent = again;
    timer = setTimeout(() => {
      timer = undefined;
      button.textContent = label;
    }, 4000);
  } }, label);
  return button;
}
