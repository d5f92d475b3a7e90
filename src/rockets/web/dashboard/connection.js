// The line at the top that says whether what is shown is what is.

import { setText } from "./dom.js";

const shown = document.getElementById("connection");
let feed = "connecting";
let lastLive = null;
let staleSince = null;
let refusal = null;
let unreachable = false;

function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

function draw() {
  let [state, text] = ["live", "Live"];
  if (unreachable || (feed === "reconnecting" && staleSince === null && refusal === null)) {
    const since = lastLive === null ? "" : `; as of ${clock(lastLive)}`;
    [state, text] = ["stale", `Not connected, trying again${since}`];
  } else if (staleSince !== null) {
    [state, text] = ["stale", `Stale since ${clock(staleSince)}: the service is cut off from its store, or behind`];
  } else if (refusal !== null) {
    [state, text] = ["stale", `Refused: ${refusal}`];
  } else if (feed === "connecting") {
    [state, text] = ["connecting", "Connecting"];
  } else if (feed === "none") {
    [state, text] = ["live", "Connected"];
  }
  shown.dataset.state = state;
  setText(shown, text);
}

/** Say how the feed is: connecting, live, reconnecting, or none on a page without one. */
export function feedIs(state) {
  if (feed === "live" && state !== "live") lastLive = staleSince ?? new Date();
  feed = state;
  if (state === "live") unreachable = false;
  draw();
}

/** Say that what is shown is as old as that, or with null that it is not. */
export function staleBy(seconds) {
  const since = seconds === null ? null : new Date(Date.now() - seconds * 1_000);
  // Seconds are whole: the same moment is not to be told as another one.
  if (since === null || staleSince === null || Math.abs(since - staleSince) > 2_000) staleSince = since;
  draw();
}

/** Say that the service has answered, and how old what it told was. */
export function answered(seconds) {
  [unreachable, refusal] = [false, null];
  if (feed !== "reconnecting" && seconds === null) lastLive = new Date();
  staleBy(seconds);
}

/** Say that the service has answered with a problem; with a text it refuses all that the page is for. */
export function refused(message = null) {
  [unreachable, refusal] = [false, message];
  draw();
}

/** Say that the service did not answer. */
export function failed() {
  unreachable = true;
  draw();
}
