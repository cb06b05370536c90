// Making elements. Data becomes text, never markup: there is no innerHTML anywhere on this page.

export const $ = (id) => document.getElementById(id);

/** An element with properties, data-* and aria-* attributes, and children (elements or text). */
export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
});
const figures = new Intl.NumberFormat("en");

const day = new Intl.DateTimeFormat("en-CA"); // 2026-11-26

/** Seconds since 1970 as a time of the day, of this one or with its date. */
export function timeOf(seconds) {
  const when = new Date(seconds * 1000);
  const date = day.format(when);
  return date === day.format(new Date()) ? clock.format(when) : `${date} ${clock.format(when)}`;
}

/** 12345 as 12,345. */
export const figure = (number) => figures.format(number);

/** What a state is called. */
export const stateName = (state) => (state === "twice" ? "seen twice" : state);

let announced = 0;

/** Tell a screen reader, unless it was told something a moment ago. */
export function announce(text, { always = false } = {}) {
  const now = Date.now();
  if (!always && now - announced < 5000) return;
  announced = now;
  $("announcer").textContent = text;
}
