// The line at the top that says whether what is shown is what is.

import { setText } from "./dom.js";

const shown = document.getElementById("connection");
let feed = "connecting";
let lastLive = null;
let staleSeconds = null;
let unreachable = false;

function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

function draw() {
  let [state, text] = ["live", "Live"];
  if (unreachable || feed === "reconnecting") {
    const since = lastLive === null ? "" : `; as of ${clock(lastLive)}`;
    [state, text] = ["stale", `Not connected, trying again${since}`];
  } else if (staleSeconds !== null) {
    [state, text] = ["stale", `The service is cut off from its store; ${Math.round(staleSeconds)} s old`];
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
  if (feed === "live" && state !== "live") lastLive = new Date();
  feed = state;
  if (state === "live") unreachable = false;
  draw();
}

/** Say that the service has answered, and how old what it told was. */
export function answered(seconds) {
  [unreachable, staleSeconds] = [false, seconds];
  if (feed !== "reconnecting") lastLive = new Date();
  draw();
}

/** Say that the service did not answer. */
export function failed() {
  unreachable = true;
  draw();
}
