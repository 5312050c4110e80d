"use strict";
// Switch between light and dark. The choice is kept in a cookie, so that the server writes it into the page and nothing flashes.
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-switch]")) return;
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `warren-theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
});
// What needs a script is hidden until one runs; htmx brings new parts.
const reveal = (part) => part.querySelectorAll("[data-theme-switch]").forEach((one) => { one.hidden = false; });
reveal(document);
document.addEventListener("htmx:load", (event) => reveal(event.target));
// The menu folds away on a narrow screen only.
const wide = matchMedia("(min-width: 60rem)");
const unfold = () => document.querySelectorAll("details.menu").forEach((one) => { one.open = wide.matches; });
wide.addEventListener("change", unfold);
unfold();
