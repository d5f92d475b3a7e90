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

function withStale(url) {
  return `${url}${url.includes("?") ? "&" : "?"}stale=ok`;
}

/** Get JSON; gives `{body, staleSeconds}`, where null means that it is not stale. */
export async function get(url, { signal } = {}) {
  let answer;
  try {
    answer = await ask(url, { signal });
  } catch (error) {
    if (!(error instanceof Problem) || error.body.type !== "/problems/store-unreachable") throw error;
    answer = await ask(withStale(url), { signal });
  }
  const stale = answer.headers.get("Rockets-Stale");
  return { body: await answer.json(), staleSeconds: stale === null ? null : Number(stale) };
}

/** Post nothing to a URL; throws a Problem where that is refused. */
export async function post(url) {
  await ask(url, { method: "POST" });
}
