// One rocket: its state now or at a message number, its speed, what is missing, its messages.

import { get, Problem } from "./api.js";
import { feedIs } from "./connection.js";
import { element, link, setText, settled } from "./dom.js";
import * as format from "./format.js";
import { Poll } from "./poll.js";

const POINTS_MAX = 2_000;
const MESSAGES_SHOWN = 50;

const FACTS = [
  ["Status", (rocket) => format.status(rocket.status)],
  ["Type", (rocket) => format.text(rocket.type)],
  ["Mission", (rocket) => format.text(rocket.mission)],
  ["Speed", (rocket) => format.number(rocket.speed)],
  ["Launched", (rocket) => format.text(rocket.launchedAt)],
  ["Launch speed", (rocket) => format.number(rocket.launchSpeed)],
  ["Exploded", (rocket) => format.text(rocket.explodedAt)],
  ["Reason", (rocket) => format.text(rocket.explosionReason)],
  ["Updated", (rocket) => format.text(rocket.updatedAt)],
  ["Last number", (rocket) => format.number(rocket.lastMessageNumber)],
  ["Without gap up to", (rocket) => format.number(rocket.sequence.settledThrough)],
  ["Messages", (rocket) => format.number(rocket.sequence.received)],
  ["Missing", (rocket) => missing(rocket.sequence)],
  ["Anomalies", (rocket) => format.number(rocket.anomalies)],
];

function missing({ missingCount, missing: ranges }) {
  return missingCount === 0 ? "none" : `${format.number(missingCount)}: ${format.ranges(ranges, missingCount)}`;
}

/** Show a rocket in an element until the function that is returned is called. */
export function showRocket(content, query, { replaceQuery }) {
  const channel = query.get("rocket");
  const base = `/rockets/${encodeURIComponent(channel)}`;
  const gone = new AbortController();
  const values = new Map(FACTS.map(([name]) => [name, element("dd")]));
  const note = element("p", { class: "note", role: "status" });
  const slider = element("input", { type: "range", min: 1, "aria-label": "Message number", oninput: slide });
  const field = element("input", { type: "number", min: 1, "aria-label": "Message number", onchange: slide });
  const now = element("button", { type: "button", onclick: () => travel(null) }, "Now");
  const view = element(
    "select",
    { onchange: changeView },
    element("option", { value: "" }, "latest"),
    element("option", { value: "settled" }, "settled"),
  );
  const chartBox = element("div", { class: "chart", role: "img", "aria-label": "Speed over message number" });
  const history = messageTable(base, query, { replaceQuery, signal: gone.signal, travel });
  const fetchAt = settled(showAt, 150);
  let at = readNumber(query.get("at"));
  let newest = null;
  let drawn = null; // what the chart shows: a count of messages
  let drawing = false;
  let chart = null;

  view.value = query.get("view") === "settled" ? "settled" : "";
  content.replaceChildren(
    element("h1", {}, channel),
    note,
    element(
      "div",
      { class: "travel" },
      element("label", {}, "View", view),
      element("label", { class: "slide" }, "As it was at message", slider),
      field,
      now,
    ),
    element("dl", { class: "facts" }, ...FACTS.map(([name]) => element("div", {}, element("dt", {}, name), values.get(name)))),
    element("h2", {}, "Speed"),
    chartBox,
    element("h2", {}, "Messages"),
    history.element,
    element("p", {}, link(`/?page=anomalies&channel=${encodeURIComponent(channel)}`, "Anomalies of this rocket")),
  );
  feedIs("none");

  const poll = new Poll(() => `${base}${viewed("?")}`, 1_000, (rocket, problem) => {
    if (problem !== null) {
      setText(note, problem.status === 404 ? "No message of this rocket is stored." : problem.message);
      return;
    }
    const first = newest === null;
    newest = rocket;
    const last = Math.max(1, rocket.lastMessageNumber);
    [slider.max, field.max] = [last, last];
    if (at === null) showState(rocket);
    else if (first) showAt();
    if (drawn !== rocket.sequence.received && !drawing) drawChart(rocket);
    history.grew(rocket);
  });

  function viewed(mark) {
    return view.value ? `${mark}view=${view.value}` : "";
  }

  function showState(rocket) {
    setText(note, at === null ? "" : `As it was at message ${format.number(at)}.`);
    for (const [name, text] of FACTS) setText(values.get(name), text(rocket));
    const shown = at ?? Math.max(1, rocket.lastMessageNumber);
    [slider.value, field.value] = [shown, shown];
  }

  async function showAt() {
    if (at === null) return;
    const asked = at;
    try {
      const { body } = await get(`${base}?at=${asked}${viewed("&")}`, { signal: gone.signal });
      if (at === asked) showState(body);
    } catch (error) {
      if (gone.signal.aborted || at !== asked) return;
      const text = error instanceof Problem ? error.message : "The service does not answer.";
      setText(note, `Message ${format.number(asked)}: ${text}`);
    }
  }

  function slide(event) {
    travel(readNumber(event.target.value));
  }

  /** Go to a message number, or back to the present with null. */
  function travel(number) {
    at = number;
    if (number === null) query.delete("at");
    else query.set("at", number);
    replaceQuery(query);
    chart?.mark(at);
    if (number !== null) {
      [slider.value, field.value] = [number, number];
      fetchAt();
    } else if (newest !== null) {
      showState(newest);
    }
  }

  function changeView() {
    if (view.value) query.set("view", view.value);
    else query.delete("view");
    replaceQuery(query);
    poll.now();
    showAt();
  }

  async function drawChart(rocket) {
    drawing = true;
    try {
      const curve = await get(`${base}/messages?state=speed&limit=${POINTS_MAX}`, { signal: gone.signal });
      const { SpeedChart } = await import("./chart.js");
      if (gone.signal.aborted) return;
      chart ??= new SpeedChart(chartBox);
      chart.show(curve.body.messages);
      chart.mark(at);
      chartBox.setAttribute("aria-label", summary(rocket));
      drawn = rocket.sequence.received;
    } catch (error) {
      if (!gone.signal.aborted) setText(note, `The speed cannot be shown: ${error.message}`);
    } finally {
      drawing = false;
    }
  }

  return () => {
    gone.abort();
    poll.stop();
    chart?.remove();
  };
}

function summary(rocket) {
  const end = rocket.speed === null ? "has not been launched" : `is ${format.number(rocket.speed)}`;
  return `Speed over message number, up to message ${format.number(rocket.lastMessageNumber)}; it ${end}.`;
}

function readNumber(text) {
  const number = Number(text);
  return Number.isSafeInteger(number) && number >= 1 ? number : null;
}

/** The messages of a rocket, a page at a time. */
function messageTable(base, query, { replaceQuery, signal, travel }) {
  const body = element("tbody");
  const earlier = element("button", { type: "button", onclick: back }, "Earlier");
  const later = element("button", { type: "button", onclick: forward }, "Later");
  const pages = [readNumber(query.get("after")) ?? 0];
  let following = null;
  let known = -1;
  let waiting = false;

  async function show() {
    const after = pages.at(-1);
    let page;
    try {
      ({ body: page } = await get(`${base}/messages?after=${after}&limit=${MESSAGES_SHOWN}`, { signal }));
    } catch {
      return; // The note above says what is wrong.
    }
    following = page.next;
    body.replaceChildren(...page.messages.map((message) => row(message, travel)));
    earlier.disabled = after === 0;
    later.disabled = following === null;
  }

  function go() {
    const after = pages.at(-1);
    if (after === 0) query.delete("after");
    else query.set("after", after);
    replaceQuery(query);
    show();
  }

  function back() {
    pages.pop();
    if (pages.length === 0) pages.push(0);
    go();
  }

  function forward() {
    pages.push(following);
    go();
  }

  /** Look again where messages have come that belong on this page. */
  async function grew(rocket) {
    if (known === rocket.sequence.received || waiting) return;
    waiting = true;
    known = rocket.sequence.received;
    await show();
    waiting = false;
  }

  return {
    grew,
    element: element(
      "div",
      {},
      element(
        "div",
        { class: "wide-table", tabindex: 0, role: "region", "aria-label": "Messages, scrolls" },
        element(
          "table",
          { "aria-label": "Messages" },
          element("thead", {}, element("tr", {}, ...["Number", "Type", "Content", "Sent", "Received"].map((title) => element("th", { scope: "col" }, title)))),
          body,
        ),
      ),
      element("p", { class: "pages" }, earlier, later),
    ),
  };
}

function row(message, travel) {
  const { number, type, time, payload, receivedAt } = message;
  const to = element("button", { type: "button", class: "link", onclick: () => travel(number) }, format.number(number));
  return element(
    "tr",
    {},
    element("td", { class: "numeric" }, to),
    element("td", {}, type),
    element("td", { class: "content" }, payload === null ? "–" : JSON.stringify(payload)),
    element("td", {}, format.text(time)),
    element("td", {}, format.time(receivedAt)),
  );
}
