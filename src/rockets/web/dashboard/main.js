// Shows the page that the address names, and follows links without loading everything again.

import { element } from "./dom.js";
import { showFleet } from "./fleet.js";
import { showAnomalies, showRejections } from "./notes.js";
import { showRocket } from "./rocket.js";

const content = document.getElementById("content");
let leave = () => {};

function replaceQuery(query) {
  const text = query.toString();
  history.replaceState(null, "", text ? `/?${text}` : "/");
}

function show() {
  leave();
  const query = new URLSearchParams(location.search);
  const channel = query.get("rocket");
  const page = channel !== null ? "rocket" : (query.get("page") ?? "fleet");
  const pages = { fleet: showFleet, rocket: showRocket, anomalies: showAnomalies, rejections: showRejections };
  const titles = { fleet: "Fleet", rocket: channel, anomalies: "Anomalies", rejections: "Rejections" };
  mark(page);
  if (!(page in pages)) {
    document.title = "Rockets";
    content.replaceChildren(element("h1", {}, "There is no such page"));
    leave = () => {};
    return;
  }
  document.title = `${titles[page]} – Rockets`;
  leave = pages[page](content, query, { replaceQuery });
}

/** Say in the navigation where we are. */
function mark(page) {
  for (const anchor of document.querySelectorAll("nav a")) {
    const url = new URL(anchor.href);
    const named = url.pathname === "/" ? (url.searchParams.get("page") ?? "fleet") : null;
    if (named === page) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

document.addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href]");
  if (anchor === null || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const url = new URL(anchor.href);
  if (url.origin !== location.origin || url.pathname !== "/" || url.hash) return;
  event.preventDefault();
  history.pushState(null, "", url);
  show();
  scrollTo(0, 0);
  content.focus({ preventScroll: true });
});
addEventListener("popstate", show);
show();
