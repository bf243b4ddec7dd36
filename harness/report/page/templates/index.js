"use strict";
// What needs this script is hidden without it.
all(".needs-script").forEach((each) => { each.hidden = false; });

// Sort a table by a column: numbers by value, rows without one last.
function sortTable(table, place) {
  const head = table.tHead.rows[0].cells[place], body = table.tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  const key = (row) => {
    const cell = row.cells[place];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return head.classList.contains("num") ? null : cell.textContent.trim().toLowerCase();
  };
  const rows = Array.from(body.rows).map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
  });
  rows.forEach(([, row]) => body.append(row));
  Array.from(table.tHead.rows[0].cells).forEach((cell) => cell.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}
all("table.sortable").forEach((table) => {
  Array.from(table.tHead.rows[0].cells).forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortTable(table, place));
    head.replaceChildren(button);
  });
});

// Filter the leaderboards.
function filter() {
  const words = one("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const dataset = one("dataset").value, split = one("split").value, ours = one("ours").checked;
  let shown = 0;
  all(".board").forEach((board) => {
    const fits = (!dataset || board.dataset.dataset === dataset) && (!split || board.dataset.split === split);
    let left = 0;
    all("tbody tr", board).forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !fits || (ours && !row.classList.contains("ours")) || !words.every((word) => text.includes(word));
      left += !row.hidden;
    });
    board.hidden = left === 0;
    shown += left;
  });
  one("shown").textContent = `${shown} row${shown === 1 ? "" : "s"}`;
}
if (one("find")) {
  all(".filters input, .filters select").forEach((each) => each.addEventListener("input", filter));
  all(".filters").forEach((form) => form.addEventListener("submit", (event) => event.preventDefault()));
}

// Renew what a target took.
const threeDigits = (value) => {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
};
const whole = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
function renewTarget(input) {
  const panel = one(input.dataset.for), target = input.valueAsNumber;
  const fits = Number.isFinite(target) && target > 0;
  input.closest("p").querySelector("output").textContent = fits ? "" : "A target is a positive number; the table shows the last one.";
  if (!fits) return;
  const found = JSON.parse(panel.querySelector(".target-data").textContent);
  const rows = panel.rows || (panel.rows = all(".targets tbody tr", panel));
  const formats = { tokens: whole, seconds: threeDigits, updates: whole, joules: threeDigits };
  found.curves.forEach((curve, number) => {
    const place = curve.values.findIndex((value) => value !== null && (found.higher ? value >= target : value <= target));
    const row = rows[number], tag = row.cells[2].firstElementChild;
    tag.textContent = place < 0 ? "never reached" : "reached";
    tag.classList.toggle("reached", place >= 0);
    Object.entries(formats).forEach(([axis, format], at) => {
      const cell = row.cells[3 + at], position = place < 0 ? null : curve.axes[axis][place];
      cell.textContent = position === null ? "—" : format(position);
      if (position === null) delete cell.dataset.v; else cell.dataset.v = position;
    });
  });
  const heading = panel.querySelector(".targets thead").rows[0].cells[2];
  (heading.firstElementChild || heading).textContent = `Target ${input.value}`;
  const scale = found.log ? Math.log : (value) => value;
  const share = (scale(found.high) - scale(target)) / (scale(found.high) - scale(found.low));
  all(".target_marks line", panel).forEach((line) => {
    line.setAttribute("transform", `translate(0,${(found.height * share).toFixed(1)})`);
    line.style.display = share < 0 || share > 1 ? "none" : "";
  });
}
all("input.target").forEach((input) => input.addEventListener("input", () => renewTarget(input)));

