/** Light, dark, or as the system has it: one button that goes round, and remembers. */
import { icon } from "./icons.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };
const NAMES = { auto: "as the system has it", light: "light", dark: "dark" };
const SIGNS = { auto: "auto", light: "sun", dark: "moon" };

/** Makes `button` the switch of the page's colours. */
export function themeSwitch(button) {
  let theme = localStorage.getItem("theme");
  if (!(theme in NEXT)) theme = "auto";
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.replaceChildren(icon(SIGNS[theme]));
    button.title = `Colours: ${NAMES[theme]}`;
    button.setAttribute("aria-label", `Colours: ${NAMES[theme]}. Change to ${NAMES[NEXT[theme]]}`);
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    localStorage.setItem("theme", theme);
    show();
  });
  show();
}
