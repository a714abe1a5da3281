/** What a person has entered into a view or a message so far, and what is still wrong with it. */
import { firstState, isEmpty } from "./blocks-inputs.js";

/** The values of one surface, by block and action; they outlive an update of it, as in Slack. */
export class FormValues {
  #values = new Map();

  /** Begins with what the view object itself says is entered, if it does. */
  constructor(view) {
    for (const [blockId, actions] of Object.entries(view?.state?.values ?? {})) {
      for (const [actionId, state] of Object.entries(actions)) this.set(blockId, actionId, state);
    }
  }

  get(blockId, actionId) {
    return this.#values.get(blockId)?.get(actionId);
  }

  set(blockId, actionId, state) {
    if (!this.#values.has(blockId)) this.#values.set(blockId, new Map());
    this.#values.get(blockId).set(actionId, state);
  }

  /** `{block_id: {action_id: state}}` of these blocks. */
  of(blocks) {
    const present = new Set(blocks.map((block) => block.block_id));
    const kept = [...this.#values].filter(([blockId]) => present.has(blockId));
    return Object.fromEntries(kept.map(([blockId, actions]) => [blockId, Object.fromEntries(actions)]));
  }
}

/** What Slack's own client refuses before the app hears of it: `{block_id: words}`. */
export function problemsOf(view, values) {
  const problems = {};
  for (const block of view.blocks) {
    if (block.type !== "input") continue;
    const state = values.get(block.block_id, block.element.action_id) ?? firstState(block.element);
    const problem = problemOf(block, state);
    if (problem) problems[block.block_id] = problem;
  }
  return problems;
}

function problemOf(block, state) {
  const { element } = block;
  if (isEmpty(state)) return block.optional ? null : "Please complete this required field.";
  const length = typeof state.value === "string" ? state.value.length : null;
  if (element.min_length && length < element.min_length)
    return `Please write at least ${element.min_length} characters.`;
  if (element.max_length && length > element.max_length)
    return `Please write at most ${element.max_length} characters.`;
  if (element.type === "email_text_input" && !/^\S+@\S+\.\S+$/.test(state.value))
    return "Please enter a valid email address.";
  if (element.type === "url_text_input" && !/^https?:\/\/\S+$/.test(state.value))
    return "Please enter a valid URL.";
  return element.type === "number_input" ? numberProblem(element, Number(state.value)) : null;
}

function numberProblem(element, number) {
  if (Number.isNaN(number)) return "Please enter a number.";
  if (!element.is_decimal_allowed && !Number.isInteger(number)) return "Please enter a whole number.";
  if (element.min_value !== undefined && number < Number(element.min_value))
    return `Please enter ${element.min_value} or more.`;
  if (element.max_value !== undefined && number > Number(element.max_value))
    return `Please enter ${element.max_value} or less.`;
  return null;
}
