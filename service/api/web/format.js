// Formats numbers for people.

const decimals = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const none = decimals(0), one = decimals(1), two = decimals(2), four = decimals(4);

export const count = (value) => none.format(value);
export const fixed = (value) => four.format(value);

const WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

/** 10 -> "ten"; larger ones in digits. */
export const inWords = (value) => WORDS[value] ?? count(value);

/** 0.9561 -> "95.6 %"; values that would round to 0 or 100 % become "<0.1 %" or ">99.9 %". */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1 %";
  if (share < 1 && share > 0.9995) return ">99.9 %";
  return `${one.format(share * 100)} %`;
}

/** Format the difference of two shares: 0.326 -> "32.6 points". */
export const points = (difference) => `${one.format(difference * 100)} points`;

export function milliseconds(value) {
  if (value >= 1000) return `${two.format(value / 1000)} s`;
  return `${(value < 10 ? one : none).format(value)} ms`;
}

export function rate(value) {
  return (value < 10 ? one : none).format(value);
}

export function size(bytes) {
  return bytes < 1e6 ? `${none.format(bytes / 1e3)} kB` : `${one.format(bytes / 1e6)} MB`;
}

export function parameters(value) {
  return value < 1e6 ? `${none.format(value / 1e3)} k` : `${one.format(value / 1e6)} M`;
}

export function duration(seconds) {
  if (seconds < 90) return `${none.format(seconds)} seconds`;
  return seconds < 5400 ? `${none.format(seconds / 60)} minutes` : `${one.format(seconds / 3600)} hours`;
}

export function day(text) {
  return new Date(text).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
}
