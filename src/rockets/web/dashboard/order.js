// The order of lists, as `GET /rockets` has it: nulls last in both directions, ties by channel.

const KEYS = {
  channel: (rocket) => rocket.channel,
  type: (rocket) => rocket.type,
  mission: (rocket) => rocket.mission,
  speed: (rocket) => rocket.speed,
  status: (rocket) => rocket.status,
  launchedAt: (rocket) => instant(rocket.launchedAt),
  updatedAt: (rocket) => instant(rocket.updatedAt),
  lastMessageNumber: (rocket) => rocket.lastMessageNumber,
  missingCount: (rocket) => rocket.sequence.missingCount,
};

export const SORT_KEYS = Object.keys(KEYS);

const TIME = /^(\d{4}-\d{2}-\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/;
const instants = new Map();

/** Nanoseconds since 1970 of a messageTime; second 60 is the first of the next minute. */
function instant(time) {
  if (time === null) return null;
  let known = instants.get(time);
  if (known === undefined) {
    if (instants.size > 50_000) instants.clear();
    known = parsed(time);
    instants.set(time, known);
  }
  return known;
}

function parsed(time) {
  const [, day, hour, minute, second, fraction = "", sign, hours, minutes] = TIME.exec(time);
  const offset = sign ? Number(`${sign}1`) * (Number(hours) * 60 + Number(minutes)) : 0;
  const seconds =
    Date.parse(`${day}T00:00:00Z`) / 1000 + (Number(hour) * 60 + Number(minute) - offset) * 60 + Number(second);
  return BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0"));
}

// Code points, as the service compares; JavaScript's own order is that of UTF-16.
function compareTexts(left, right) {
  if (left === right) return 0;
  const length = Math.min(left.length, right.length);
  let at = 0;
  while (at < length && left.charCodeAt(at) === right.charCodeAt(at)) at += 1;
  if (at === length) return left.length - right.length;
  return rank(left.charCodeAt(at)) - rank(right.charCodeAt(at));
}

// Surrogates stand for what is above all other characters.
function rank(unit) {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

function compareValues(left, right) {
  if (typeof left === "string") return compareTexts(left, right);
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Read `-speed,channel`; an unknown key is left out. */
export function readSort(sort) {
  const found = (sort ?? "")
    .split(",")
    .map((key) => ({ name: key.replace(/^-/, ""), descending: key.startsWith("-") }))
    .filter((key) => key.name in KEYS);
  return found.length > 0 ? found : [{ name: "channel", descending: false }];
}

/** Make the comparison of a sort that was read. */
export function comparison(sort) {
  const keys = sort.map((key) => ({ value: KEYS[key.name], sign: key.descending ? -1 : 1 }));
  return (left, right) => {
    for (const key of keys) {
      const [a, b] = [key.value(left), key.value(right)];
      if (a === null || b === null) {
        if (a !== b) return a === null ? 1 : -1;
        continue;
      }
      const order = compareValues(a, b);
      if (order !== 0) return order * key.sign;
    }
    return compareTexts(left.channel, right.channel);
  };
}
