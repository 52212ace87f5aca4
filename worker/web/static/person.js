/* A button with data-choose-all chooses every face of its section, or none where all are chosen. */
"use strict";

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-choose-all]");
  if (!button) return;
  const boxes = [...button.closest("section").querySelectorAll("input[type=checkbox]")];
  const chosen = boxes.every((box) => box.checked);
  for (const box of boxes) box.checked = !chosen;
  document.dispatchEvent(new Event("change"));
});
