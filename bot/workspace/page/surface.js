/**
 * Where blocks stand, and how what is done to them reaches the app: a message, a modal, the Home tab.
 *
 * `place` is `{kind, key, values, blocks(), container}`, with `errors` and `files` where there are any; `key` names what
 * is remembered about it, `container` is the workspace's own name for it.
 */
import { must } from "./api.js";

/** The surface that the renderers of blocks are given. */
export function surfaceOf(store, { container, values, blocks, ...place }) {
  const where = ({ type, ...names }) => (type === "view" ? { view_id: names.view_id } : names);
  return {
    ...place,
    store,
    values,
    container,
    act: (blockId, actionId, payload) =>
      must("action", {
        ...payload,
        user: store.userId,
        container,
        block_id: blockId,
        action_id: actionId,
        state: { values: values.of(blocks) },
      }),
    suggest: (blockId, actionId, value) =>
      must("suggest", {
        user: store.userId,
        ...where(container),
        block_id: blockId,
        action_id: actionId,
        value,
      }),
  };
}
