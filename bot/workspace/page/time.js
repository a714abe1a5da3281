/** Slack timestamps ("1718000000.000100", seconds) in the words and the time zone of the reader. */

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", month: "long", day: "numeric" });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "long", day: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });

export const dateOf = (ts) => new Date(Number.parseFloat(ts) * 1000);
export const clock = (ts) => CLOCK.format(dateOf(ts));
export const inFull = (ts) => FULL.format(dateOf(ts));
export const dayKey = (ts) => dateOf(ts).toDateString();

/** "Today", "Yesterday", "Monday, June 3", or with the year where it is not this one. */
export function dayName(ts) {
  const date = dateOf(ts);
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (date.toDateString() === today.toDateString()) return "Today";
  if (date.toDateString() === yesterday.toDateString()) return "Yesterday";
  return (date.getFullYear() === today.getFullYear() ? DAY : DAY_AND_YEAR).format(date);
}

/** "2 minutes ago", for the line under a thread's first message. */
export function ago(ts) {
  const seconds = Math.max(0, (Date.now() - dateOf(ts).getTime()) / 1000);
  if (seconds < 60) return "just now";
  if (seconds < 3600) return plural(Math.floor(seconds / 60), "minute");
  if (seconds < 86400) return plural(Math.floor(seconds / 3600), "hour");
  return plural(Math.floor(seconds / 86400), "day");
}

const plural = (count, unit) => `${count} ${unit}${count === 1 ? "" : "s"} ago`;

/** Slack's `<!date^seconds^{date} at {time}|fallback>` patterns. */
export function dateFromPattern(seconds, pattern, fallback) {
  const date = dateOf(seconds);
  if (Number.isNaN(date.getTime())) return fallback;
  const words = {
    date: DAY_AND_YEAR.format(date),
    date_num: date.toISOString().slice(0, 10),
    date_short: DAY_AND_YEAR.format(date),
    date_long: FULL.format(date),
    date_pretty: dayName(seconds),
    date_short_pretty: dayName(seconds),
    date_long_pretty: dayName(seconds),
    time: CLOCK.format(date),
    time_secs: date.toLocaleTimeString(),
    ago: ago(seconds),
  };
  return pattern.replace(/\{(\w+)\}/g, (whole, name) => words[name] ?? whole);
}
