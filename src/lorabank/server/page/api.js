// Calls of this server's API. The key is kept in this tab only.

const KEY = "lorabank-key";
export const hasKey = () => Boolean(sessionStorage.getItem(KEY));
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const dropKey = () => sessionStorage.removeItem(KEY);

export class Fault extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

// What this key may do, as GET /status says.
let scopes = [];
export const keepScopes = (names) => { scopes = names; };
export const may = (scope) => scopes.includes(scope);
export const lacking = (scope, what) => `This key may not ${what}: it lacks the scope ${scope}.`;

export async function call(method, path, body) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  const isForm = body instanceof FormData;
  if (body !== undefined && !isForm) headers["content-type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, { method, headers, body: isForm ? body : body && JSON.stringify(body) });
  } catch {
    throw new Fault("The server does not answer. Is it running?", 0);
  }
  let content = null;
  try {
    content = await reply.json();
  } catch {
    throw new Fault(`The server answered ${reply.status} without a reason.`, reply.status);
  }
  if (reply.ok) return content;
  const fault = new Fault(sentence(content.error?.message ?? "The request was refused"), reply.status);
  if (reply.status === 401) document.dispatchEvent(new CustomEvent("needs-key", { detail: fault.message }));
  throw fault;
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
