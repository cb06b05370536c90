// The page: the filters are in the URL, the list follows them, the stream follows the list.
import { ask, queryOf, watch } from "./api.js";
import { showRow, showUser } from "./detail.js";
import { $, announce, el } from "./dom.js";
import { drawFaults, startFaults } from "./faults.js";
import { drawCounters, drawLanes, laneName } from "./lanes.js";
import { List } from "./list.js";
import { drawRate, drawSizes } from "./plots.js";

const FILTERS = ["account", "text", "state", "type", "user", "lane"];
const TYPING = 100; // milliseconds after a key before the list follows

const laneNames = new Map();
const list = new List(open, (lane) => laneNames.get(lane) || `lane ${lane}`);
let filters = Object.fromEntries(FILTERS.map((name) => [name, ""]));
let stop = () => {};
let paused = false;
let opened = null;
let turn = 0; // of loading: only the latest may show its result
let timer = 0;
let run = null; // of the server: another one means that what is shown is no longer there

// --- the filters

function readUrl() {
  const query = new URLSearchParams(location.search);
  for (const name of FILTERS) filters[name] = query.get(name) || "";
}

function showFilters() {
  for (const name of FILTERS) {
    const field = $(name);
    if (field.tagName === "SELECT" && filters[name] && ![...field.options].some((o) => o.value === filters[name])) {
      field.append(el("option", { value: filters[name] }, filters[name]));
    }
    if (field.value !== filters[name]) field.value = filters[name];
  }
  $("clear-filters").hidden = !FILTERS.slice(1).some((name) => filters[name]);
  const query = queryOf(filters);
  $("export").href = query ? `/page/export?${query}` : "/page/export";
  history.replaceState(null, "", query ? `/?${query}` : "/");
}

/** Change filters, and load. */
function choose(changed) {
  filters = { ...filters, ...changed };
  showFilters();
  return load();
}

// --- the list

async function load() {
  const mine = ++turn;
  clearTimeout(timer);
  const table = $("list");
  table.setAttribute("aria-busy", "true");
  stop();
  try {
    const page = await ask("/page/rows", filters);
    if (mine !== turn) return;
    list.show(page);
    list.select(opened);
    follow(page.rows.length ? page.rows[0].seq : 0);
    showEmpty();
    table.setAttribute("aria-busy", "false");
    await showUser(filters.user, filters.account);
  } catch (error) {
    if (mine !== turn) return;
    table.setAttribute("aria-busy", "false");
    announce(error.message, { always: true });
    if (error.refused) {
      list.show({ rows: [], next: null });
      $("empty").hidden = false;
      $("empty").replaceChildren(el("strong", {}, "The server refuses these filters"), error.message);
      return;
    }
    setTimeout(() => mine === turn && load(), 2000);
    setConnection("lost");
  }
}

async function loadOlder() {
  if (list.next === null) return;
  list.append(await ask("/page/rows", { ...filters, before: list.next }));
  showEmpty();
}

function showEmpty() {
  const empty = $("empty");
  empty.hidden = !list.isEmpty;
  if (!list.isEmpty) return;
  if (list.next !== null) {
    empty.replaceChildren(
      el("strong", {}, "Nothing among the newest that were looked through"),
      "Older goes on from there.");
  } else if ($("clear-filters").hidden && !filters.account) {
    empty.replaceChildren(
      el("strong", {}, "Nothing yet. Point your application here:"),
      el("pre", {}, `from whisperr import Whisperr\n\nw = Whisperr("wrk_test", base_url="${location.origin}")\nw.track("user_42", "payment_failed", {"amount": 12.5})\nw.flush()`),
    );
  } else {
    empty.replaceChildren(el("strong", {}, "Nothing matches"), "What arrives and matches will appear here.");
  }
}

// --- the stream

/** Watch what arrives after a row. A lost stream goes on at the last row that was shown. */
function follow(after) {
  stop();
  if (document.hidden) return; // until it is seen, see below
  stop = watch("/page/stream", { ...filters, after }, onTick, (state) => {
    if (state === "lost") setConnection("lost");
    else if (!paused) setConnection("live");
  });
}

function onTick(tick) {
  if (run !== null && run !== tick.run) {
    run = tick.run;
    close();
    load();
    return;
  }
  run = tick.run;
  setConnection(paused ? "paused" : "live");
  drawCounters(tick.counts, filters.state, (state) => choose({ state }));
  drawRate(tick.traffic);
  drawSizes(tick.traffic);
  drawFaults(tick.faults);
  for (const lane of tick.lanes) laneNames.set(lane.lane, laneName(lane));
  drawLanes(tick.lanes, tick.traffic.now, filters.lane, (lane) =>
    choose({ lane: filters.lane === lane ? "" : lane }));
  list.renameLanes();
  offerAccounts(tick.accounts);
  if (paused) {
    if (tick.rows.length) list.hold(tick.rows.length, tick.skipped);
  } else {
    list.arrive(tick.rows, tick.skipped);
  }
  if (tick.rows.length) $("empty").hidden = true;
}

function setConnection(state) {
  const words = { live: "live", lost: "no connection, trying again", paused: "paused" };
  const shown = $("connection");
  if (shown.dataset.state === state) return;
  shown.dataset.state = state;
  shown.textContent = words[state];
}

function offerAccounts(accounts) {
  const select = $("account");
  $("account-label").hidden = accounts.length < 2 && !filters.account;
  const offered = accounts.map(({ account, label }) => `${account} ${label}`).join("\n");
  if (select.dataset.offered === offered || document.activeElement === select) return;
  select.dataset.offered = offered;
  select.replaceChildren(
    el("option", { value: "" }, "all keys"),
    ...accounts.map(({ account, label }) => el("option", { value: account }, label)),
  );
  select.value = filters.account;
}

// --- one event

async function open(seq) {
  try {
    await showRow(seq, choose);
  } catch (error) {
    $("detail-title").textContent = error.message;
    $("detail-body").replaceChildren();
  }
  opened = seq;
  list.select(seq);
  $("detail").hidden = false;
  $("detail").focus({ preventScroll: matchMedia("(min-width: 1151px)").matches });
}

function close() {
  if ($("detail").hidden) return;
  $("detail").hidden = true;
  list.select(null);
  if (!list.focusOn(opened)) $("events").focus();
  opened = null;
}

/** A browser has few connections to one server: a page that nobody sees gives its own back. */
function seeOrNot() {
  list.held = 0; // counted again from the newest row on
  follow(list.newest);
}

function setPaused(value) {
  const within = $("rows").contains(document.activeElement);
  paused = value;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
  setConnection(paused ? "paused" : "live");
  if (!paused) load().then(() => within && list.focusFirst());
}

// --- start

function listen() {
  for (const name of FILTERS) {
    const field = $(name);
    const follow = () => choose({ [name]: field.value.trim() });
    if (field.tagName === "SELECT") field.addEventListener("change", follow);
    else {
      field.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(follow, TYPING);
      });
    }
  }
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("clear-filters").addEventListener("click", () => {
    choose({ text: "", state: "", type: "", user: "", lane: "" });
    $("text").focus();
  });
  $("older").addEventListener("click", loadOlder);
  $("show-new").addEventListener("click", () => {
    setPaused(false);
    $("events").focus();
  });
  $("pause").addEventListener("click", () => setPaused(!paused));
  $("close").addEventListener("click", close);
  document.addEventListener("visibilitychange", seeOrNot);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
    const typing = event.target.closest("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      event.preventDefault();
      $("text").focus();
    } else if (event.key === "p") setPaused(!paused);
  });
}

readUrl();
showFilters();
drawCounters({}, filters.state, (state) => choose({ state }));
startFaults();
listen();
load();
