// Numbers and times for people.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (number) => whole.format(number);

export function rate(number) {
  if (number === null || !Number.isFinite(number)) return "–";
  if (number >= 100_000) return short.format(number);
  return number > 0 && number < 10 ? number.toFixed(1) : whole.format(number);
}

export const compact = (number) => (number < 10_000 ? whole.format(number) : short.format(number));

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function duration(ms) {
  const seconds = Math.round(ms / 1000);
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function heard(ms) {
  if (ms < 0) return "never";
  return ms < 1500 ? "just now" : `${duration(ms)} ago`;
}

export function expires(deadlineMs, now = Date.now()) {
  if (!deadlineMs) return "–";
  return deadlineMs <= now ? "due" : duration(deadlineMs - now);
}

export const time = (ms) => (ms ? new Date(ms).toLocaleString() : "–");

export function endpoint({ address, port }) {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

export const stateName = (name) => name.toLowerCase().replaceAll("_", " ");

/** The words of a role, for people. */
export const roleName = (role) => ({ not_ready: "not ready", "": "unknown" })[role] ?? role;
