// Writes values for people.

const NUMBERS = new Intl.NumberFormat("en");
const DASH = "–";

export function number(value) {
  return value === null || value === undefined ? DASH : NUMBERS.format(value);
}

export function text(value) {
  return value === null || value === undefined ? DASH : value;
}

/** A time as it was sent, without what a table has no room for. */
export function time(value) {
  return value ? value.slice(0, 19).replace("T", " ") : DASH;
}

const STATUS = { awaitingLaunch: "awaiting", launched: "launched", exploded: "exploded" };

export function status(value) {
  return STATUS[value] ?? value;
}

export function ranges(list, count) {
  const shown = list.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  const told = list.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  const rest = count - told;
  return shown.join(", ") + (rest > 0 ? ` and ${number(rest)} more` : "");
}
