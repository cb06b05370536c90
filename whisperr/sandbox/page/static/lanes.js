// A lane for each sending process, and the counters above.
import { $, el, figure } from "./dom.js";
import { spark } from "./plots.js";

// The state that a press shows ("": all), the count, its name, and what it counts.
const COUNTERS = [
  ["arrived", "arrived", "arrived", "First copies. A press shows only these."],
  ["failed", "retried", "retried", "Seen again after a fault. A press shows what a fault kept out."],
  ["refused", "refused", "refused",
    "Told to be at fault: all events of a request that was refused. A press shows the guilty ones."],
  ["resent", "resent", "resent", "Second copies whose first answer was lost. A press shows only these."],
  ["twice", "twice", "seen twice", "Second copies without such a reason. A press shows only these."],
  ["", "identities", "users identified", "Users of whom an identity has come. A press shows all states."],
  ["", "requests", "requests", "Requests that were read. A press shows all states."],
];

/** Counters; choose(state) when one is pressed. */
export function drawCounters(counts, state, choose) {
  const list = $("counters");
  if (!list.children.length) {
    for (const [filter, name, words, title] of COUNTERS) {
      const press = () => choose(list.dataset.state === filter ? "" : filter);
      const figures = [el("b", { id: `count-${name}` }, "0"), el("span", {}, words)];
      const button = filter
        ? el("button", { type: "button", title, "data-state": filter, onclick: press }, ...figures)
        : el("button", { type: "button", title, onclick: () => choose("") }, ...figures);
      list.append(el("li", {}, button));
    }
  }
  list.dataset.state = state;
  COUNTERS.forEach(([filter, name], index) => {
    const count = counts[name] || 0;
    const shown = $(`count-${name}`);
    if (shown.textContent !== figure(count)) shown.textContent = figure(count);
    shown.className = filter && filter !== "arrived" && count ? "alarm" : "";
    const button = list.children[index].firstElementChild;
    if (filter) button.setAttribute("aria-pressed", String(state === filter));
  });
}

// Not known by an id: by its connection, or by the relay that sent what has none.
const isNamed = (lane) => /^(connection|relay) /.test(lane.name);

const shortName = (lane) => (isNamed(lane) ? lane.name : lane.name.slice(0, 8));

export const laneName = (lane) =>
  lane.process || (isNamed(lane) ? lane.name : `process ${shortName(lane)}`);

/** By which relays its events came; "" if it sent them itself. */
const carriers = (lane) => {
  const known = lane.relays || [];
  return known.length ? `through relay ${known.join(", ")}` : "";
};

/** Lanes; choose(number) when one is pressed. Buttons are kept, so that the focus stays. */
export function drawLanes(lanes, now, chosen, choose) {
  const list = $("lanes");
  const known = new Map([...list.children].map((item) => [item.dataset.lane, item]));
  const items = lanes.map((lane) => {
    const key = String(lane.lane);
    let item = known.get(key);
    if (!item) {
      const button = el("button", { type: "button", onclick: () => choose(key) });
      item = el("li", { "data-lane": key }, button);
    }
    const button = item.firstElementChild;
    button.setAttribute("aria-pressed", String(chosen === key));
    const carried = carriers(lane);
    button.replaceChildren(...[
      el("span", { className: "who" },
        el("span", {}, laneName(lane)), el("span", {}, figure(lane.rows))),
      spark(lane.seconds, now),
      el("small", {}, lane.process ? `${shortName(lane)} · ${lane.agent}` : lane.agent),
      carried && el("small", { className: "relay" }, carried),
    ].filter(Boolean));
    return item;
  });
  const same = items.length === list.children.length
    && items.every((item, index) => list.children[index] === item);
  if (!same && !list.contains(document.activeElement)) list.replaceChildren(...items);
  else if (!same) list.append(...items.filter((item) => !item.isConnected));
  if (!items.length) list.replaceChildren(el("li", {}, el("small", {}, "none yet")));
  offer(lanes, chosen);
}

function offer(lanes, chosen) {
  const select = $("lane");
  const wanted = lanes.map((lane) => `${lane.lane} ${laneName(lane)}`).sort().join("\n");
  if (select.dataset.offered === wanted || document.activeElement === select) return;
  select.dataset.offered = wanted;
  const names = new Map(lanes.map((lane) => [String(lane.lane), laneName(lane)]));
  if (chosen && !names.has(chosen)) names.set(chosen, `lane ${chosen}`);
  select.replaceChildren(
    el("option", { value: "" }, "any"),
    ...[...names].map(([value, name]) => el("option", { value }, name)),
  );
  select.value = chosen;
}
