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
  copy: "M7 7h9v10H7ZM13 7V4H4v10h3",
  check: "M4 10.5 8.5 15 16 6",
  plus: "M10 4v12M4 10h12",
  stop: "M6 6h8v8H6Z",
  bolt: "M11 2.5 4.5 11H9.5L9 17.5 15.5 9H10.5Z",
  sun: "M10 13.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4ZM10 2.5v1.6M10 15.9v1.6M2.5 10h1.6M15.9 10h1.6M4.7 4.7l1.1 1.1M14.2 14.2l1.1 1.1M15.3 4.7l-1.1 1.1M5.8 14.2l-1.1 1.1",
  moon: "M16 11.5A6.5 6.5 0 0 1 8.5 4a6.5 6.5 0 1 0 7.5 7.5Z",
  auto: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15ZM10 2.5v15M10 6.5h5.6M10 10h7.2M10 13.5h5.6",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11ZM13 13l4 4",
  people:
    "M7.5 9.5a2.7 2.7 0 1 0 0-5.4 2.7 2.7 0 0 0 0 5.4ZM2.5 16c.3-2.8 2.2-4.3 5-4.3s4.7 1.5 5 4.3M12.5 4.4a2.6 2.6 0 0 1 0 4.9M14.2 12c1.9.5 3 1.9 3.3 4",
  eye: "M2.5 10S5 5 10 5s7.5 5 7.5 5-2.5 5-7.5 5-7.5-5-7.5-5ZM10 12.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z",
};

/** A drawing by name; decoration, so the button around it carries the label. */
export function icon(name) {
  const path = svg("path", {
    d: PATHS[name] ?? PATHS.more,
    class: { send: "filled", stop: "filled", more: "dotted" }[name] ?? "lined",
  });
  return svg("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true", focusable: "false" }, path);
}
