/* The grid of people: suggestions of names, Enter in the field of names, a photo that is dropped anywhere. */
"use strict";

let asked = 0;
document.addEventListener("input", async (event) => {
  const field = event.target.closest("[data-suggests]");
  if (!field) return;
  const number = ++asked;
  const answer = await fetch(`${field.dataset.suggests}?q=${encodeURIComponent(field.value)}`);
  if (!answer.ok || number !== asked) return;
  const options = (await answer.json()).map((name) => Object.assign(document.createElement("option"), { value: name }));
  field.list.replaceChildren(...options);
});

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("[data-submits]");
  if (!field) return;
  if (event.key === "Enter") {
    event.preventDefault();
    document.getElementById(field.dataset.submits).click();
  } else if (event.key === "Escape") {
    field.blur();
  }
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-sends]") && event.target.files.length > 0) event.target.form.submit();
});

document.addEventListener("dragover", (event) => {
  if ([...event.dataTransfer.types].includes("Files")) event.preventDefault();
});

document.addEventListener("drop", (event) => {
  const form = document.querySelector("[data-drop]");
  if (!form || event.dataTransfer.files.length === 0) return;
  event.preventDefault();
  form.elements.photo.files = event.dataTransfer.files;
  form.submit();
});
