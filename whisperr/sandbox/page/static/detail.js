// One event in full, and what is known of a user.
import { ask } from "./api.js";
import { $, el, figure, stateName, timeOf } from "./dom.js";

function facts(pairs) {
  const given = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", {}, ...given.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

const json = (value) => JSON.stringify(value, null, 2);

/** Show a row. choose({user}) or choose({lane}) narrows the list. Returns the row. */
export async function showRow(seq, choose) {
  const row = await ask(`/page/rows/${seq}`);
  let body = null;
  let text = row.body || "(not looked at)";
  try {
    body = JSON.parse(row.body);
    text = json(body);
  } catch {
    // What is not JSON, or was cut, is shown as it came.
  }
  const title = row.type || (row.kind === "identity" ? "identify" : "A request");
  $("detail-title").textContent = title;
  const link = (text, wanted) =>
    text && el("button", { type: "button", className: "link", onclick: () => choose(wanted) }, text);
  const sent = row.sent || {};
  const parts = [
    el("p", {}, el("span", { className: "state", "data-state": row.state }, stateName(row.state))),
    row.reason && el("p", { className: "reason", "data-state": row.state }, row.reason),
    facts([
      ["User", link(row.user, { user: row.user })],
      ["Received", timeOf(row.time)],
      ["Occurred", body && typeof body.occurred_at === "string" ? body.occurred_at : null],
      ["Process", link(row.lane_name, { lane: String(row.lane) })],
      ["Relay", row.relay],
      ["Message id", row.message_id],
    ]),
    copies(row),
    el("h3", {}, "Content"),
    el("pre", { tabindex: 0, "aria-label": "Content as JSON" }, text),
    el("h3", {}, "Request"),
    facts([
      ["Path", sent.path],
      ["Answer", sent.status === 0 ? "none" : String(sent.status ?? "")],
      ["Events in it", sent.count && figure(sent.count)],
      ["Fault", sent.fault],
      ["From", sent.connection],
      ...Object.entries(sent.headers || {}),
    ]),
  ];
  $("detail-body").replaceChildren(...parts.filter(Boolean));
  return row;
}

function copies(row) {
  if (row.copies.length < 2) return null;
  const items = row.copies.map((copy) =>
    el("li", {},
      el("time", {}, timeOf(copy.time)),
      el("span", { className: "state", "data-state": copy.state }, stateName(copy.state)),
      el("span", {}, copy.reason || "")));
  return el("div", {}, el("h3", {}, `Seen ${row.copies.length} times`),
    el("ul", { className: "timeline", id: "copies" }, ...items));
}

/** Show who a user is; the list below it is the timeline. */
export async function showUser(user, account) {
  const card = $("user-card");
  if (!user) {
    card.hidden = true;
    return;
  }
  const known = await ask("/page/user", { user, account });
  const identity = known.identity || {};
  $("user-title").textContent = user;
  const channels = (identity.channels || []).map((channel) =>
    el("li", {}, `${channel.channel} ${channel.address}`
      + (channel.opted_in ? "" : " · opted out") + (channel.verified ? " · verified" : "")));
  const events = Object.entries(known.events).map(([state, count]) => `${figure(count)} ${stateName(state)}`);
  $("user-facts").replaceChildren(...[
    facts([
      ["Identified", known.identified ? timeOf(known.identified) : "not yet"],
      ["Events", events.join(", ") || "none"],
      ["Prefers", identity.preferred_channel],
      ...Object.entries(identity.traits || {}).map(([name, value]) =>
        [name, typeof value === "string" ? value : JSON.stringify(value)]),
    ]),
    channels.length ? el("ul", { "aria-label": "Channels" }, ...channels) : null,
  ].filter(Boolean));
  card.hidden = false;
}
