// Asks the service. Where an instance is cut off from its store it is asked for what it knows, and
// the answer says how old that is.

/** What the service refused: its problem, as docs and log know it. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `status ${status}`);
    this.status = status;
    this.body = body;
  }
}

async function ask(url, options) {
  const answer = await fetch(url, { headers: { Accept: "application/json" }, ...options });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, body);
}

// What is older than this comes from an instance that is cut off, or behind: one that is well asks
// its store twice a second.
const FRESH_S = 2;
// Paths whose newest state was refused: to ask for it again would take seconds each time.
const refused = new Set();

function withStale(url) {
  return `${url}${url.includes("?") ? "&" : "?"}stale=ok`;
}

/** Get JSON; gives `{body, staleSeconds}`, where null means that it is not stale. */
export async function get(url, { signal } = {}) {
  const [path] = url.split("?");
  let answer = null;
  if (!refused.has(path)) {
    try {
      answer = await ask(url, { signal });
    } catch (error) {
      if (!(error instanceof Problem) || error.body.type !== "/problems/not-up-to-date") throw error;
      refused.add(path);
    }
  }
  answer ??= await ask(withStale(url), { signal });
  const seconds = Number(answer.headers.get("Rockets-Stale"));
  const isStale = seconds > FRESH_S;
  if (!isStale) refused.delete(path);
  return { body: await answer.json(), staleSeconds: isStale ? seconds : null };
}

/** Post nothing to a URL; throws a Problem where that is refused. */
export async function post(url) {
  await ask(url, { method: "POST" });
}
