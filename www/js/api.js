// The public REST interface of this node, and nothing else.
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const TIMEOUT_MS = 10_000;

/** With it a node that lets us in no more says so, and does not have the browser ask its user in the middle of it all. */
const NO_DIALOG = { "X-Requested-With": "XMLHttpRequest" };

export async function call(method, path, { body, headers = {}, timeoutMs = TIMEOUT_MS } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      body,
      headers: { ...NO_DIALOG, ...headers },
      cache: "no-store",
      credentials: "same-origin", // the access token for which the browser asked, where there are tokens
      signal: AbortSignal.timeout(timeoutMs),
    });
  } catch (error) {
    throw new ApiError(0, "UNREACHABLE", error.name === "TimeoutError" ? "No answer in time" : "This node does not answer");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const problem = answer.error ?? { code: "UNKNOWN", message: `HTTP status ${response.status}` };
  throw new ApiError(response.status, problem.code, problem.message);
}

export const get = (path) => call("GET", path);
export const post = (path, value = {}, options = {}) =>
  call("POST", path, { body: JSON.stringify(value), headers: { "Content-Type": "application/json" }, ...options });

export function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) search.append(name, one);
    }
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Bytes of a key or value as JSON has it. */
export function toBytes(text, encoding) {
  if (encoding !== "base64") return new TextEncoder().encode(text);
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/** A key's path: every byte that is not plain is escaped, so that no name can leave /v1/kv/. */
export function keyPath(key) {
  let path = "/v1/kv/";
  for (const byte of toBytes(key.key, key.key_encoding)) {
    const character = String.fromCharCode(byte);
    path += /[A-Za-z0-9_~-]/.test(character) ? character : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return path;
}

/** A key for people: bytes that are not text as \\xNN. */
export function keyName(key) {
  if (key.key_encoding !== "base64") return key.key;
  return [...toBytes(key.key, "base64")].map((byte) => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, "0")}`)).join("");
}

export function isText(bytes) {
  try {
    return !decoder.decode(bytes).includes("\0");
  } catch {
    return false;
  }
}
