// Asks for something again and again, for as long as the page is there and visible.

import { get, Problem } from "./api.js";
import { answered, failed, refused } from "./connection.js";

export class Poll {
  #asked = new AbortController();
  #timer = 0;
  #wanted = false;

  /** What takes long is asked for less often: `rest` times as long as it took is waited at least. */
  constructor(url, everyMs, action, { rest = 2 } = {}) {
    this.url = url;
    this.everyMs = everyMs;
    this.action = action;
    this.rest = rest;
    this.#ask();
  }

  /** Ask soon, because something has changed. */
  soon() {
    this.#wanted = true;
  }

  /** Ask at once, because the URL has changed; what was asked before no longer counts. */
  now() {
    this.stop();
    this.#asked = new AbortController();
    this.#ask();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#asked.abort();
  }

  async #ask() {
    const { signal } = this.#asked;
    const began = performance.now();
    if (!document.hidden) {
      this.#wanted = false;
      try {
        const { body, staleSeconds } = await get(this.url(), { signal });
        if (signal.aborted) return;
        answered(staleSeconds);
        this.action(body, null);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Problem) {
          refused();
          this.action(null, error);
        } else {
          failed();
        }
      }
    }
    const took = performance.now() - began;
    this.#again(Math.max(this.everyMs, took * this.rest));
  }

  #again(ms) {
    const least = ms / 5;
    const due = performance.now() + ms;
    const look = () => {
      if (this.#wanted || performance.now() >= due) this.#ask();
      else this.#timer = setTimeout(look, Math.min(least, 1_000));
    };
    this.#timer = setTimeout(look, least);
  }
}
