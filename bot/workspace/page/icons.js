/** The few line drawings of the page's own buttons, 20 by 20, in the colour of the text around them. */
import { svg } from "./dom.js";

const PATHS = {
  send: "M3 3.5 17 10 3 16.5 5.2 10.8 11 10 5.2 9.2Z",
  smile:
    "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15ZM7.3 8.2v.4M12.7 8.2v.4M6.8 11.8c.8 1.5 1.9 2.2 3.2 2.2s2.4-.7 3.2-2.2",
  thread: "M4 4h12v9H9.5L6 16v-3H4Z M7 7.5h6M7 10h4",
  more: "M10 4.5v.2M10 10v.2M10 15.5v.2",
  close: "M5 5 15 15M15 5 5 15",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  at: "M13 7v4.5c0 1.3.8 2 1.9 2 1.5 0 2.4-1.5 2.4-3.6A7.3 7.3 0 1 0 13.5 16.5M13 10a3 3 0 1 1-6 0 3 3 0 0 1 6 0Z",
  slash: "M12.5 4 7.5 16M3.5 3.5h13v13h-13Z",
  hash: "M8 3 6.5 17M13.5 3 12 17M3.5 7.5h13.5M3 12.5h13.5",
  lock: "M5 9h10v8H5ZM7 9V6.5a3 3 0 0 1 6 0V9",
  trash: "M4 6h12M8 6V4h4v2M5.5 6l.8 11h7.4l.8-11M8.5 9v5M11.5 9v5",
  up: "M7 17H4V9h3m0 8V9l3.5-6c1.3 0 2 .9 1.7 2.2L11.5 8H16c1 0 1.6.8 1.4 1.8l-1.1 5.6c-.2 1-.9 1.6-1.9 1.6Z",
  down: "M13 3h3v8h-3m0-8v8l-3.5 6c-1.3 0-2-.9-1.7-2.2L8.5 12H4c-1 0-1.6-.8-1.4-1.8l1.1-5.6C3.9 3.6 4.6 3 5.6 3Z",
  arrow: "M10 4v12M5 11l5 5 5-5",
  back: "M12.5 4 6.5 10l6 6",
  file: "M5 3h7l4 4v10H5ZM12 3v4h4",
  eye: "M2.5 10S5 5 10 5s7.5 5 7.5 5-2.5 5-7.5 5-7.5-5-7.5-5ZM10 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z",
};

/** A drawing by name; decoration, so the button around it carries the label. */
export function icon(name) {
  const path = svg("path", {
    d: PATHS[name] ?? PATHS.more,
    class: { send: "filled", more: "dotted" }[name] ?? "lined",
  });
  return svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true", focusable: "false" }, path);
}
