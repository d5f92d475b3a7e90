// Follows `GET /events` and says honestly how it is with it.
//
// The browser itself connects again after a broken stream, with the last id it has seen. Where the
// service refuses (too many readers, or it is stopping) it gives up, and we try again.

const AGAIN_MS = 3_000;

/**
 * @typedef {object} Listener
 * @property {() => void} reset all rockets are told anew from here on
 * @property {(rocket: object) => void} changed
 * @property {(channel: string) => void} gone
 * @property {(total: number | null) => void} ready what there was has been told; so many match
 * @property {(seconds: number | null) => void} staleBy what is told is so old, or with null it is not
 * @property {(state: "connecting" | "live" | "reconnecting") => void} state
 */

export class Feed {
  #source = null;
  #timer = 0;

  /** Follow the rockets that match a query, in place of those before. @param {Listener} listener */
  follow(query, listener) {
    this.close();
    listener.state("connecting");
    this.#open(query.toString(), listener);
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #open(query, listener) {
    const source = new EventSource(`/events${query ? `?${query}` : ""}`);
    const on = (name, action) => source.addEventListener(name, (event) => action(JSON.parse(event.data)));
    this.#source = source;
    on("hello", ({ resumed }) => {
      listener.staleBy(null); // or `stale` is next
      if (!resumed) listener.reset();
    });
    on("stale", ({ seconds }) => listener.staleBy(seconds));
    on("fresh", () => listener.staleBy(null));
    on("reset", () => listener.reset());
    on("rocket", (rocket) => listener.changed(rocket));
    on("gone", ({ channel }) => listener.gone(channel));
    on("ready", ({ total }) => {
      listener.ready(total);
      listener.state("live");
    });
    source.addEventListener("error", () => {
      listener.state("reconnecting");
      if (source.readyState !== EventSource.CLOSED) return;
      this.#timer = setTimeout(() => this.#open(query, listener), AGAIN_MS);
    });
  }
}
