// The fleet: tiles, filters and the live table.

import { feedIs, refused, staleBy } from "./connection.js";
import { element, setText, settled } from "./dom.js";
import { Feed } from "./feed.js";
import * as format from "./format.js";
import { comparison, readSort } from "./order.js";
import { Poll } from "./poll.js";
import { Table } from "./table.js";

const TILES = [
  ["launched", "Launched", (fleet) => fleet.status.launched],
  ["awaiting", "Awaiting launch", (fleet) => fleet.status.awaitingLaunch],
  ["exploded", "Exploded", (fleet) => fleet.status.exploded],
  ["gaps", "With gaps", (fleet) => fleet.gaps.rockets],
  ["anomalies", "Anomalies", (fleet) => fleet.anomalies],
];

const COLUMNS = [
  {
    name: "channel",
    title: "Rocket",
    text: (rocket) => rocket.channel,
    href: (rocket) => `/?rocket=${encodeURIComponent(rocket.channel)}`,
  },
  {
    name: "status",
    title: "Status",
    text: (rocket) => format.status(rocket.status),
    state: (rocket) => rocket.status,
  },
  { name: "type", title: "Type", wide: true, text: (rocket) => format.text(rocket.type) },
  { name: "mission", title: "Mission", wide: true, text: (rocket) => format.text(rocket.mission) },
  { name: "speed", title: "Speed", numeric: true, text: (rocket) => format.number(rocket.speed) },
  {
    name: "lastMessageNumber",
    title: "Last no.",
    wide: true,
    numeric: true,
    text: (rocket) => format.number(rocket.lastMessageNumber),
  },
  {
    name: "missingCount",
    title: "Missing",
    numeric: true,
    text: (rocket) => format.number(rocket.sequence.missingCount),
    state: (rocket) => (rocket.sequence.complete ? "complete" : "gaps"),
  },
  { name: "updatedAt", title: "Updated", wide: true, text: (rocket) => format.time(rocket.updatedAt) },
];

const FILTERS = ["status", "type", "mission", "explosionReason", "minSpeed", "maxSpeed", "complete", "view"];
const RATE_OVER_MS = 3_000;
const SORT_EVERY_MS = 250;

/** Show the fleet in an element until the function that is returned is called. */
export function showFleet(content, query, { replaceQuery }) {
  const rockets = new Map();
  const feed = new Feed();
  const tiles = new Map(TILES.map(([name, title]) => [name, tile(title)]));
  const rate = tile("Messages/s");
  const total = element("p", { class: "total", role: "status" });
  const table = new Table(COLUMNS, { label: "Rockets", key: (rocket) => rocket.channel, sort: sortBy });
  const form = filterForm(query, settled(filter, 300));
  let sort = readSort(query.get("sort"));
  let complete = true;
  let timer = 0;

  content.replaceChildren(
    element("h1", {}, "Fleet"),
    element("dl", { class: "tiles" }, ...[...tiles.values(), rate].map(({ box }) => box)),
    form.element,
    total,
    table.element,
  );

  const samples = [];
  const poll = new Poll(
    () => "/fleet",
    2_500,
    (fleet, problem) => {
      if (problem !== null) {
        refused(problem.message);
        return;
      }
      for (const [name, , value] of TILES) setText(tiles.get(name).value, format.number(value(fleet)));
      setText(rate.value, messagesPerSecond(samples, fleet.messages.received));
      form.offer(fleet);
    },
    { rest: 20 }, // of a large fleet it takes the service seconds
  );

  function draw() {
    if (timer !== 0) return;
    timer = setTimeout(() => {
      timer = 0;
      table.show([...rockets.values()].sort(comparison(sort)), sort);
      const shown = `${format.number(rockets.size)} ${rockets.size === 1 ? "rocket" : "rockets"}`;
      setText(total, complete ? shown : `The first ${shown} that match; filter to see others`);
    }, SORT_EVERY_MS);
  }

  function follow() {
    const asked = new URLSearchParams([...query].filter(([name]) => FILTERS.includes(name)));
    feed.follow(asked, {
      reset: () => rockets.clear(),
      changed: (rocket) => {
        rockets.set(rocket.channel, rocket);
        poll.soon();
        draw();
      },
      gone: (channel) => {
        rockets.delete(channel);
        draw();
      },
      ready: (matching) => {
        complete = matching === null || rockets.size >= matching;
        draw();
      },
      staleBy,
      state: feedIs,
    });
  }

  function sortBy(name) {
    const [first] = sort;
    sort = [{ name, descending: first.name === name && !first.descending }];
    query.set("sort", `${sort[0].descending ? "-" : ""}${name}`);
    replaceQuery(query);
    draw();
  }

  function filter(values) {
    for (const name of FILTERS) query.delete(name);
    for (const [name, value] of values) query.append(name, value);
    replaceQuery(query);
    rockets.clear();
    follow();
  }

  follow();
  return () => {
    clearTimeout(timer);
    poll.stop();
    feed.close();
  };
}

function tile(title) {
  const value = element("dd", {}, "–");
  return { value, box: element("div", {}, element("dt", {}, title), value) };
}

function messagesPerSecond(samples, received) {
  const now = performance.now();
  samples.push([now, received]);
  while (samples.length > 2 && now - samples[1][0] > RATE_OVER_MS) samples.shift();
  const [[then, before]] = samples;
  return now > then ? format.number(Math.round(((received - before) * 1_000) / (now - then))) : "–";
}

function filterForm(query, changed) {
  const named = (name, title, made) => {
    made.value = query.get(name) ?? "";
    made.name = name;
    return element("label", {}, title, made);
  };
  const choice = (name, title, options) =>
    named(
      name,
      title,
      element("select", {}, ...options.map(([value, text]) => element("option", { value }, text))),
    );
  const room = matchMedia("(min-width: 48rem)").matches;
  const names = { type: element("datalist", { id: "types" }), mission: element("datalist", { id: "missions" }) };
  const form = element(
    "form",
    {
      class: "filters",
      role: "search",
      "aria-label": "Filter rockets",
      oninput: read,
      onsubmit: (event) => event.preventDefault(),
      onreset: () => setTimeout(read),
    },
    choice("status", "Status", [
      ["", "any"],
      ["awaitingLaunch", "awaiting launch"],
      ["launched", "launched"],
      ["exploded", "exploded"],
    ]),
    named("type", "Type", element("input", { list: "types", size: 12 })),
    named("mission", "Mission", element("input", { list: "missions", size: 12 })),
    named("minSpeed", "Speed from", element("input", { type: "number", step: 1 })),
    named("maxSpeed", "to", element("input", { type: "number", step: 1 })),
    choice("complete", "Numbers", [
      ["", "any"],
      ["true", "without gaps"],
      ["false", "with gaps"],
    ]),
    choice("view", "View", [
      ["", "latest"],
      ["settled", "settled"],
    ]),
    element("button", { type: "button", onclick: clear }, "Clear"),
    ...Object.values(names),
  );

  function read() {
    if (form.checkValidity()) changed([...new FormData(form)].filter(([, value]) => value !== ""));
  }

  function clear() {
    for (const field of form.elements) if (field.name) field.value = "";
    read();
  }

  /** Offer the names there are. */
  function offer(fleet) {
    for (const [name, list] of Object.entries(names)) {
      const found = Object.keys(fleet[name]).slice(0, 100);
      if (found.join() === list.dataset.names) continue;
      list.dataset.names = found.join();
      list.replaceChildren(...found.map((value) => element("option", { value })));
    }
  }

  const open = room || FILTERS.some((name) => query.has(name));
  return { element: element("details", { open }, element("summary", {}, "Filter"), form), offer };
}
