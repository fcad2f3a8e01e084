// A box that picks all jobs of the page; boxes stay as they are when the list asks again.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-pick-all]")) return;
  for (const box of event.target.form.querySelectorAll("input[name=ids]")) box.checked = event.target.checked;
});
