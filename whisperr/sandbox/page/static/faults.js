// Faults for the next requests, a share of them, or all.
import { order } from "./api.js";
import { $, announce, el } from "./dom.js";

function what(kind) {
  if (kind === "refuse") {
    const field = $("fault-field").value.trim();
    return { do: "refuse", where: { [field]: valueOf($("fault-value").value) } };
  }
  if (kind === "delay") return { do: "delay", seconds: numberIn("fault-seconds") };
  if (kind === "hang" || kind === "reset") return { do: kind };
  const fault = { do: "status", status: Number(kind) };
  const after = $("fault-retry-after").value;
  if (kind === "429" && after) fault.headers = { "Retry-After": after };
  return fault;
}

/** null, which the server refuses by name, for what is no number. */
function numberIn(id) {
  const text = $(id).value;
  return text === "" ? null : Number(text);
}

/** 17 and true as what they are in JSON; anything else is a text. */
function valueOf(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? text : value;
  } catch {
    return text;
  }
}

function span() {
  const chosen = $("fault-span").value;
  if (chosen === "times") return { times: numberIn("fault-times") };
  if (chosen === "share") return { share: numberIn("fault-share") / 100 };
  return { times: -1 };
}

/** One fault in words. */
export function inWords(fault) {
  let words = fault.do;
  if (fault.do === "status") words = `answer ${fault.status}`;
  if (fault.do === "refuse") {
    const wanted = Object.entries(fault.where);
    words = `refuse ${wanted.map(([name, value]) => `${name} = ${JSON.stringify(value)}`).join(", ")}`;
  }
  if (fault.do === "delay") words = `answer after ${fault.seconds} s`;
  const after = fault.headers && fault.headers["Retry-After"];
  if (after !== undefined) words += `, Retry-After ${after}`;
  if (fault.store) words += ", after storing";
  if (fault.path) words += `, ${fault.path}`;
  if (fault.key) words += `, key ${fault.key}`;
  if (fault.share !== undefined) words += `, ${Math.round(fault.share * 1000) / 10} % of requests`;
  if (fault.times === -1) return fault.share === undefined ? `${words}, until cleared` : words;
  return `${words}, ${fault.times} more`;
}

let shown = null;

/** The faults that wait. */
export function drawFaults(faults) {
  const words = faults.map(inWords);
  if (shown === words.join("\n")) return;
  shown = words.join("\n");
  $("fault-list").replaceChildren(...words.map((text) => el("li", {}, text)));
  $("clear-faults").hidden = !words.length;
}

function showFields() {
  const kind = $("fault-kind").value;
  for (const label of $("faults").querySelectorAll("[data-for]")) label.hidden = label.dataset.for !== kind;
  const chosen = $("fault-span").value;
  for (const label of $("faults").querySelectorAll("[data-span]")) label.hidden = label.dataset.span !== chosen;
}

export function startFaults() {
  $("fault-kind").addEventListener("change", showFields);
  $("fault-span").addEventListener("change", showFields);
  showFields();
  $("faults").addEventListener("submit", async (event) => {
    event.preventDefault();
    await tell(() => order("POST", "/sandbox/faults", { ...what($("fault-kind").value), ...span() }));
  });
  $("clear-faults").addEventListener("click", async () => {
    await tell(() => order("DELETE", "/sandbox/faults?keys=all"));
    announce("No faults", { always: true });
    $("inject").focus();
  });
}

async function tell(call) {
  $("fault-error").textContent = "";
  try {
    await call();
  } catch (error) {
    $("fault-error").textContent = error.message;
  }
}
