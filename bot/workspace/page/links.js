/**
 * Links and pictures that are safe to show.
 *
 * A link goes to http, https or mailto only. A picture is fetched from this workspace only: a remote one would tell
 * its host who read the message, and an answer could carry a secret out in a picture's address.
 */
import { h } from "./dom.js";

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const INLINE_PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,[a-z0-9+/=]+$/i;

/** The address if it may be followed, else null. */
export function safeUrl(address) {
  try {
    const url = new URL(String(address).trim());
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** A link, or its words alone where the address may not be followed. */
export function link(address, ...words) {
  const href = safeUrl(address);
  if (href === null) return h("span", { class: "unsafe-link", title: "This link was not kept" }, words);
  return h("a", { href, target: "_blank", rel: "noopener noreferrer", title: href }, words);
}

const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/** The address of a file of this workspace as this page reaches it, by whichever name; null for any other. */
export function ownAddress(address) {
  if (INLINE_PICTURE.test(address)) return address;
  try {
    const url = new URL(address, location.href);
    const same = LOOPBACK.has(url.hostname) && LOOPBACK.has(location.hostname) && url.port === location.port;
    if (same) url.host = location.host;
    return url.origin === location.origin ? url.href : null;
  } catch {
    return null;
  }
}

/** Where the picture of a `slack_file` (`{id}` or `{url}`) is. */
export const fileAddress = ({ id, url } = {}) =>
  url ?? (id ? `/files/${encodeURIComponent(id)}/picture` : undefined);

/** A picture of this workspace; for any other its description and a link. */
export function picture(address, description, className = "picture") {
  const own = typeof address === "string" ? ownAddress(address) : null;
  if (own) {
    const image = h("img", { class: className, src: own, alt: description ?? "", loading: "lazy" });
    image.addEventListener("error", () => image.replaceWith(pictureElsewhere(address, description)), {
      once: true,
    });
    return image;
  }
  return pictureElsewhere(address, description);
}

function pictureElsewhere(address, description) {
  const sign = h("span", { "aria-hidden": "true" }, "🖼 ");
  return h("span", { class: "picture-elsewhere" }, sign, link(address, description || "Picture"));
}
