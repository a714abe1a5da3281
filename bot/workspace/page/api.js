/**
 * The control routes of the local workspace, spoken as one person.
 *
 * Knows addresses and refusals, nothing of what is shown.
 */

/** A refusal in words for people. */
export class Refused extends Error {}

async function answerOf(response) {
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Refused(`The local workspace answered ${response.status} without an explanation.`);
  }
  if (!response.ok) throw new Refused(body.message ?? body.error ?? `The local workspace answered ${response.status}.`);
  return body;
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Refused("The local workspace does not answer. Is it still running?");
  }
}

/** Reads a control route. */
export async function get(route, params = {}) {
  const present = Object.entries(params).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(present);
  return answerOf(await reach(`/_control/${route}?${query}`));
}

/** Writes to a control route and gives its answer back as it is, `errors` of a form included. */
export async function send(route, body) {
  const response = await reach(`/_control/${route}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answerOf(response);
}

/** The same, where anything but ok is a refusal. */
export async function must(route, body) {
  const answer = await send(route, body);
  if (answer.ok === false) throw new Refused(answer.message ?? answer.error ?? "The local workspace refused this.");
  return answer;
}

/**
 * Follows what happens, as `user` sees it. `opened` runs at each (re)connection, so that what was missed can be read
 * again; `lost` when the line breaks. Returns a function that stops following.
 */
export function follow(user, { opened, happened, lost }) {
  const source = new EventSource(`/_control/events?user=${encodeURIComponent(user)}`);
  source.onopen = opened;
  source.onerror = lost;
  source.onmessage = (event) => happened(JSON.parse(event.data));
  return () => source.close();
}
