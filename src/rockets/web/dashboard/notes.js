// Anomalies and rejections: what was stored and changed nothing, and what was refused.

import { get, post, Problem } from "./api.js";
import { answered, failed, feedIs } from "./connection.js";
import { element, link, setText } from "./dom.js";
import * as format from "./format.js";

const KINDS = {
  secondLaunch: "a launch after the first one",
  beforeLaunch: "a speed change before the launch",
  afterExplosion: "a message after the explosion",
  unknownType: "a type this version does not know",
  conflict: "another content under a stored number",
};

/** Show anomalies in an element until the function that is returned is called. */
export function showAnomalies(content, query, { replaceQuery }) {
  const kind = element(
    "select",
    { onchange: changed },
    element("option", { value: "" }, "any"),
    ...Object.keys(KINDS).map((name) => element("option", { value: name }, name)),
  );
  const channel = channelField(query, changed);
  kind.value = query.get("kind") ?? "";
  const list = new NoteList("/anomalies", "anomalies", ["Rocket", "Number", "Kind", "Content", "Sent", "Received"], (item) => [
    rocketLink(item.channel, item.messageNumber),
    format.number(item.messageNumber),
    element("span", { title: KINDS[item.kind], "data-state": item.kind }, item.kind),
    element("div", { class: "content" }, ...anomalyContent(item)),
    format.text(item.messageTime),
    format.time(item.receivedAt),
  ]);
  content.replaceChildren(
    element("h1", {}, "Anomalies"),
    element("p", {}, "Messages that are stored and changed nothing, and conflicts; newest first."),
    element("form", { class: "filters", role: "search", "aria-label": "Filter anomalies", onsubmit: submit }, element("label", {}, "Kind", kind), element("label", {}, "Rocket", channel)),
    list.element,
  );

  function changed() {
    filter(query, { kind: kind.value, channel: channel.value }, replaceQuery);
    list.show(chosen(query, ["kind", "channel"]));
  }

  list.show(chosen(query, ["kind", "channel"]));
  return () => list.close();
}

/** Show rejections in an element until the function that is returned is called. */
export function showRejections(content, query, { replaceQuery }) {
  const channel = channelField(query, changed);
  const list = new NoteList("/rejections", "rejections", ["Rocket", "Number", "Why", "Body", "Times", "Last", ""], (item) => [
    item.channel === null ? "–" : rocketLink(item.channel, null),
    format.number(item.messageNumber),
    element("div", { class: "content" }, why(item)),
    element("div", { class: "content" }, item.body ?? `base64: ${item.bodyBase64}`),
    format.number(item.count),
    format.time(item.lastAt),
    element("button", { type: "button", onclick: () => retry(item) }, "Retry"),
  ]);
  content.replaceChildren(
    element("h1", {}, "Rejections"),
    element("p", {}, "Bodies that were refused; newest first, each once."),
    element("form", { class: "filters", role: "search", "aria-label": "Filter rejections", onsubmit: submit }, element("label", {}, "Rocket", channel)),
    list.element,
  );

  function changed() {
    filter(query, { channel: channel.value }, replaceQuery);
    list.show(chosen(query, ["channel"]));
  }

  async function retry(item) {
    try {
      await post(`/rejections/${item.id}/retry`);
      await list.show(chosen(query, ["channel"]));
      list.say(`Rejection ${item.id} is stored now.`);
    } catch (error) {
      list.say(`Rejection ${item.id} is refused again: ${error.message}`);
    }
  }

  list.show(chosen(query, ["channel"]));
  return () => list.close();
}

/** A list that is read page by page. */
class NoteList {
  #url;
  #member;
  #cells;
  #body = element("tbody");
  #note = element("p", { class: "note", role: "status" });
  #more = element("button", { type: "button", onclick: () => this.#read() }, "More");
  #gone = new AbortController();
  #asked = new URLSearchParams();
  #cursor = null;

  constructor(url, member, titles, cells) {
    this.#url = url;
    this.#member = member;
    this.#cells = cells;
    feedIs("none");
    this.element = element(
      "div",
      {},
      this.#note,
      element(
        "div",
        { class: "wide-table", tabindex: 0, role: "region", "aria-label": `The ${member}, scrolls` },
        element(
          "table",
          { "aria-label": member },
          element("thead", {}, element("tr", {}, ...titles.map((title) => element(title ? "th" : "td", title ? { scope: "col" } : {}, title)))),
          this.#body,
        ),
      ),
      element("p", { class: "pages" }, this.#more),
    );
  }

  /** Begin anew with these parameters. */
  async show(asked) {
    this.#gone.abort();
    this.#gone = new AbortController();
    [this.#asked, this.#cursor] = [asked, null];
    await this.#read();
  }

  say(text) {
    setText(this.#note, text);
  }

  close() {
    this.#gone.abort();
  }

  async #read() {
    const { signal } = this.#gone;
    const asked = new URLSearchParams(this.#asked);
    const first = this.#cursor === null;
    if (!first) asked.set("cursor", this.#cursor);
    this.#more.disabled = true;
    try {
      const { body, staleSeconds } = await get(`${this.#url}?${asked}`, { signal });
      answered(staleSeconds);
      const rows = body[this.#member].map((item) => this.#row(item));
      if (first) this.#body.replaceChildren(...rows);
      else this.#body.append(...rows);
      this.#cursor = body.next;
      this.say(this.#body.childElementCount === 0 && body.next === null ? "There are none." : dropped(body));
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Problem) this.say(error.message);
      else failed();
      this.#more.disabled = false; // to try again
      return;
    }
    this.#more.disabled = this.#cursor === null;
  }

  #row(item) {
    return element("tr", {}, ...this.#cells(item).map((cell) => element("td", {}, cell)));
  }
}

function dropped(body) {
  return body.dropped > 0 ? `${format.number(body.dropped)} older ones were dropped.` : "";
}

function channelField(query, onchange) {
  const field = element("input", { size: 36, pattern: "[A-Za-z0-9._:\\-]{1,128}", onchange });
  field.value = query.get("channel") ?? "";
  return field;
}

function submit(event) {
  event.preventDefault();
}

function chosen(query, names) {
  return new URLSearchParams(names.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));
}

function filter(query, values, replaceQuery) {
  for (const [name, value] of Object.entries(values)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  replaceQuery(query);
}

function rocketLink(channel, number) {
  const at = number === null ? "" : `&at=${number}`;
  return link(`/?rocket=${encodeURIComponent(channel)}${at}`, channel);
}

function anomalyContent(item) {
  if (item.kind !== "conflict") return [item.messageType ?? "–"];
  return ["stored", "refused"].map((which) => element("span", {}, `${which}: ${contentOf(item[which])}`));
}

function contentOf(conflicting) {
  return conflicting === null ? "unreadable" : `${conflicting.messageType} ${JSON.stringify(conflicting.message)}`;
}

function why(item) {
  if (item.status === null) return "would be taken now";
  const fields = (item.errors ?? []).map(({ pointer, detail }) => `${pointer} ${detail}`);
  return [`${item.status} ${item.detail}`, ...fields].join("; ");
}
