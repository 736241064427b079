"use strict";
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const body = document.getElementById("jobs");
  const keys = new Set(all("tr[data-job]").map((row) => row.dataset.job));
  all("video").filter((video) => keys.has(video.dataset.name)).forEach((video) => {
    video.closest("figure").dataset.job = video.dataset.name;
  });

  // --- one job chosen: its dot, its row and its result stand out --------------------------------------------

  function choose(key) {
    all(".chosen").forEach((element) => element.classList.remove("chosen"));
    all("[data-job]").filter((element) => element.dataset.job === key).forEach((element) => element.classList.add("chosen"));
  }

  for (const element of all("[data-job]")) {
    element.addEventListener("pointerenter", () => choose(element.dataset.job));
    element.addEventListener("focusin", () => choose(element.dataset.job));
  }
  function wipe(key) {
    const right = document.getElementById("wipe-right");
    if (!right || ![...right.options].some((option) => option.value === key)) return;
    right.value = key;
    right.dispatchEvent(new Event("input"));
  }

  for (const element of all("circle[data-job], tr[data-job]")) {
    element.addEventListener("click", () => wipe(element.dataset.job));
  }
  for (const dot of all("circle[data-job]")) {
    dot.addEventListener("click", () => {
      choose(dot.dataset.job);
      document.getElementById(`job-${dot.dataset.job}`).scrollIntoView({ block: "center" });
    });
  }

  // --- sorting: numbers by size, before words; what wasn't measured comes last --------------------------------

  function compare(one, other) {
    const [a, b] = [one, other].map(Number);
    if (one === "" || other === "") return Number(one === "") - Number(other === "");
    if (Number.isNaN(a) !== Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return Number.isNaN(a) ? one.localeCompare(other) : a - b;
  }

  function sort(button) {
    const heading = button.closest("th"), column = Number(button.dataset.column);
    const falling = heading.getAttribute("aria-sort") === "ascending";
    const value = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
    const rows = all("tr", body).sort((a, b) => {
      const [one, other] = [value(a), value(b)];
      const measured = one !== "" && other !== "";
      return compare(one, other) * (falling && measured ? -1 : 1);
    });
    all("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...rows);
  }

  all("[data-column]").forEach((button) => button.addEventListener("click", () => sort(button)));
})();
