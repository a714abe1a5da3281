/**
 * The control routes of the local workspace, spoken as one person.
 *
 * Knows addresses and refusals, nothing of what is shown.
 */

/** The codes people meet, in words. Others are shown as they are, with the detail the workspace gives. */
const WORDS = {
  already_reacted: "You reacted with that already.",
  cant_delete_message: "Only the author can delete a message.",
  cant_update_message: "Only the author can edit a message.",
  channel_not_found: "There is no such channel for you.",
  message_not_found: "That message is not there any more.",
  no_text: "There is nothing to send yet.",
  not_processing: "There is nothing to stop any more.",
  not_in_channel: "You are not a member of this channel.",
  user_not_found: "There is no such person here.",
  view_not_found: "This window is not open any more.",
};
/** The workspace tells these itself, as a notice. */
const TOLD = new Set(["dispatch_failed", "operation_timeout", "invalid_command_response", "unknown_command"]);

/** A refusal in words for people; `told` says that they have read about it already. */
export class Refused extends Error {
  constructor(words, told = false) {
    super(words);
    this.told = told;
  }
}

const refusalOf = (body, status) =>
  new Refused(
    body.detail ?? WORDS[body.error] ?? body.error ?? `The local workspace answered ${status}.`,
    TOLD.has(body.error),
  );

async function answerOf(response) {
  let body;
  try {
    body = await response.json();
  } catch {
    throw new Refused(`The local workspace answered ${response.status} without an explanation.`);
  }
  if (!response.ok) throw refusalOf(body, response.status);
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

/** Submits a form: the problems with it as `{block_id: words}`, or null if it was taken. */
export async function submit(body) {
  const answer = await send("submit", body);
  if (answer.errors && !Array.isArray(answer.errors)) return answer.errors;
  if (answer.ok === false) throw refusalOf(answer, 200);
  return null;
}

async function send(route, body) {
  const response = await reach(`/_control/${route}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return answerOf(response);
}

/** Writes to a control route; anything but ok is a refusal. */
export async function must(route, body) {
  const answer = await send(route, body);
  if (answer.ok === false) throw refusalOf(answer, 200);
  return answer;
}

/** Sends files with a message: `fields` and `files` as one form. Without a channel they are only kept, for a form. */
export async function upload(fields, files) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  for (const file of files) form.append("file", file, file.name);
  const answer = await answerOf(await reach("/_control/upload", { method: "POST", body: form }));
  if (answer.ok === false) throw refusalOf(answer, 200);
  return answer;
}
