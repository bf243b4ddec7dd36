"use strict";
const all = (query, root = document) => Array.from(root.querySelectorAll(query));
const one = (id) => document.getElementById(id);

// Say what a mark of a chart is.
const tip = one("tip");
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 16}px`;
});

// A printed page shows everything.
addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
