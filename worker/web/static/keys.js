/* Keyboard: an element with data-key is pressed by its key; lists with data-cards are walked with J and K.
   Everything that a key does, a visible control does, too. */
"use strict";

const isTyping = (target) => target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]") !== null;

const cards = () => [...document.querySelectorAll("[data-cards] [data-card]")];

function step(by) {
  const all = cards();
  if (all.length === 0) return;
  const here = all.findIndex((card) => card.contains(document.activeElement));
  const next = all[Math.min(all.length - 1, Math.max(0, here < 0 ? (by > 0 ? 0 : all.length - 1) : here + by))];
  const target = next.matches("a, button") ? next : next.querySelector("a, input, button");
  target.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function select() {
  const card = document.activeElement.closest("[data-card]");
  const box = card && card.querySelector("input[type=checkbox]");
  if (box) box.click();
}

const MOVES = { j: () => step(1), k: () => step(-1), x: select };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]") || isTyping(event.target)) return;
  const key = event.key.toLowerCase();
  const named = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
  const undo = key === "z" ? document.querySelector("[data-undo] button") : null;
  if (named) named.matches("input:not([type=submit])") ? named.focus() : named.click();
  else if (undo) undo.click();
  else if (MOVES[key]) MOVES[key]();
  else return;
  event.preventDefault();
});

/* Buttons with data-opens show a dialog by its id; data-closes closes the one around it. */
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) {
    event.preventDefault();
    document.getElementById(opener.dataset.opens).showModal();
  }
  const closer = event.target.closest("[data-closes]");
  if (closer) closer.closest("dialog").close();
});

/* The number of chosen cards, and whether the buttons that need some can be pressed. */
function count() {
  const chosen = document.querySelectorAll("[data-card] input[type=checkbox]:checked").length;
  for (const one of document.querySelectorAll("[data-count]")) one.textContent = String(chosen);
  for (const one of document.querySelectorAll("[data-needs]")) one.disabled = chosen < Number(one.dataset.needs);
  for (const one of document.querySelectorAll("[data-selection]")) one.classList.toggle("has-selection", chosen > 0);
}

/* A menu that is wider than the window is scrolled to the entry of this page. */
function showCurrent() {
  for (const one of document.querySelectorAll("nav [aria-current=page]")) {
    const menu = one.closest("nav");
    menu.scrollLeft = one.offsetLeft - menu.offsetLeft - (menu.clientWidth - one.offsetWidth) / 2;
  }
}

document.addEventListener("change", count);
document.addEventListener("DOMContentLoaded", showCurrent);
window.addEventListener("resize", showCurrent);
document.addEventListener("DOMContentLoaded", count);
window.addEventListener("pageshow", count);
