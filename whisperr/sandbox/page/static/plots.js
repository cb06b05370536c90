// The two plots: events a second, and events in a request. Plain SVG, drawn anew at each tick.
import { $, figure, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 124;
const TOP = 14; // room for the largest figure
const BASE = HEIGHT - 16; // room for the words below the axis
const SECONDS = 120;
// Columns of the server's table, from the bottom of a bar up.
const STATES = [["arrived", 1], ["resent", 2], ["twice", 3], ["failed", 4], ["refused", 5]];

function label(x, y, text, anchor = "start") {
  return svg("text", { x, y, "text-anchor": anchor }, text);
}

function frame(plot, children) {
  const width = plot.clientWidth || WIDTH;
  const axis = svg("line", { x1: 0, x2: width, y1: BASE + 0.5, y2: BASE + 0.5 });
  plot.replaceChildren(
    svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" }, axis, ...children),
  );
}

export function drawRate({ now, seconds }) {
  const plot = $("rate");
  const width = plot.clientWidth || WIDTH;
  const step = width / SECONDS;
  const totals = seconds.map((row) => row.slice(1).reduce((sum, count) => sum + count, 0));
  const peak = Math.max(0, ...totals);
  const scale = peak ? (BASE - TOP) / peak : 0;
  const bars = [];
  for (const row of seconds) {
    let y = BASE;
    const x = width - (now - row[0] + 1) * step;
    for (const [state, column] of STATES) {
      if (!row[column]) continue;
      const height = Math.max(row[column] * scale, 1);
      y -= height;
      bars.push(svg("rect", { x, y, width: Math.max(step - 1, 1), height, "data-state": state }));
    }
  }
  frame(plot, [
    ...bars,
    label(0, HEIGHT - 3, "2 min ago"),
    label(width, HEIGHT - 3, "now", "end"),
    label(0, 11, peak ? `peak ${figure(peak)}/s` : "quiet"),
  ]);
  const last = seconds.find((row) => row[0] === now - 1);
  const lastTotal = last ? last.slice(1).reduce((sum, count) => sum + count, 0) : 0;
  plot.setAttribute(
    "aria-label",
    `In the last two minutes at most ${peak} events a second, in the last second ${lastTotal}`,
  );
}

export function drawSizes({ sizes }) {
  const plot = $("sizes");
  const width = plot.clientWidth || WIDTH;
  const step = width / sizes.length;
  const peak = Math.max(0, ...sizes.map(([, count]) => count));
  const scale = peak ? (BASE - TOP) / peak : 0;
  const children = [];
  sizes.forEach(([end, count], index) => {
    const middle = (index + 0.5) * step;
    const height = count ? Math.max(count * scale, 2) : 0;
    children.push(
      svg("rect", {
        className: "bar", x: index * step + 3, y: BASE - height, width: step - 6, height, rx: 2,
      }),
      label(middle, HEIGHT - 3, `${end}`, "middle"),
    );
    if (count) children.push(label(middle, BASE - height - 3, figure(count), "middle"));
  });
  frame(plot, children);
  const told = sizes.filter(([, count]) => count).map(([end, count]) => `${count} up to ${end}`);
  plot.setAttribute("aria-label", `Requests by number of events: ${told.join(", ") || "none"}`);
}

/** The activity of one process in the last minute. */
export function spark(seconds, now) {
  const peak = Math.max(1, ...seconds.map(([, count]) => count));
  const bars = seconds
    .filter(([second]) => now - second < 60)
    .map(([second, count]) => {
      const height = Math.max((count / peak) * 18, 2);
      return svg("rect", { x: 236 - (now - second) * 4, y: 18 - height, width: 3, height });
    });
  return svg(
    "svg", { viewBox: "0 0 240 18", preserveAspectRatio: "none", "aria-hidden": "true" }, ...bars,
  );
}

