"use strict";
(() => {
  const all = (root, query) => Array.from(root.querySelectorAll(query));
  const root = document.documentElement;

  // Light, dark, or as the system says.
  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % 3];
    if (next === "auto") delete root.dataset.theme; else root.dataset.theme = next;
    theme.textContent = "Theme: " + next;
  });

  // Tables sorted by a click on a head; cells without a number go last either way.
  const key = (row, column) => {
    const cell = row.cells[column];
    const given = cell.dataset.value;
    if (given === undefined) return cell.textContent.trim().toLowerCase();
    return given === "" ? null : Number(given);
  };
  for (const table of all(document, "table.sortable")) {
    const heads = all(table, "thead tr:last-child th");
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const up = head.dataset.first === "up"
          ? head.getAttribute("aria-sort") !== "ascending"
          : head.getAttribute("aria-sort") === "descending";
        heads.forEach((other) => other.querySelector("button") && other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = Array.from(body.rows).map((row, place) => ({ row, place, key: key(row, column) }));
        rows.sort((a, b) => {
          if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
          const order = a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
          return (up ? order : -order) || a.place - b.place;
        });
        body.append(...rows.map((entry) => entry.row));
      });
    });
  }

  // The heat map shows the columns of one method or of all.
  for (const select of all(document, "select.methods")) {
    const table = document.getElementById(select.dataset.table);
    const show = () => all(table, "[data-method]").forEach((cell) => {
      cell.hidden = select.value !== "" && cell.dataset.method !== select.value;
    });
    select.addEventListener("change", show);
    show();
  }

  // The diagnosis shows one later task.
  for (const select of all(document, "select.steps")) {
    const steps = all(select.closest("section"), ".step");
    const show = () => steps.forEach((step, place) => { step.hidden = place !== Number(select.value); });
    select.addEventListener("input", show);
    show();
  }

  const pickSeed = (place, seed) => all(place, "[data-seed]").forEach((node) => {
    node.hidden = node.dataset.seed !== seed;
  });

  // The gallery: one picture at a time, boxes above a score, of one class or all, ground truth on or off.
  for (const gallery of all(document, ".gallery")) {
    const find = (name) => gallery.querySelector(name);
    const thumbs = all(gallery, ".thumbs button");
    const pictures = all(gallery, ".picture");
    const score = find("input[type=range]");
    const kind = find("select.class");
    const error = find("select.error");
    const truth = find("input[type=checkbox]");
    const seed = find("select.seed");
    const output = find("output");
    const show = (place) => {
      pictures.forEach((picture, other) => { picture.hidden = other !== place; });
      thumbs.forEach((thumb, other) => thumb.setAttribute("aria-pressed", String(other === place)));
    };
    const wanted = ({ state, kind: fault, score: value }) => {
      if (state === "truth") return truth.checked;
      const enough = Number(value) >= Number(score.value);
      if (state === "object") return !enough && (error.value === "" || error.value === "missed");
      return enough && (error.value === "" || error.value === state || error.value === fault);
    };
    const draw = () => {
      output.textContent = Number(score.value).toFixed(2);
      if (seed) pickSeed(gallery, seed.value);
      const counts = pictures.map((picture) => {
        let count = 0;
        for (const box of all(picture, ".box")) {
          const visible = (kind.value === "" || kind.value === box.dataset.name) && wanted(box.dataset);
          box.style.display = visible ? "" : "none";
          count += visible && box.dataset.state !== "truth" && !box.closest(".panel").hidden;
        }
        return count;
      });
      // Images that hold neither the class nor such a box are left out, unless that leaves none.
      const fits = pictures.map((picture, place) =>
        (kind.value === "" || JSON.parse(picture.dataset.classes).includes(kind.value) || counts[place] > 0)
        && (error.value === "" || counts[place] > 0));
      const none = !fits.includes(true);
      find(".none-left").hidden = !none;
      thumbs.forEach((thumb, place) => { thumb.hidden = !none && !fits[place]; });
      const open = thumbs.findIndex((thumb) => thumb.getAttribute("aria-pressed") === "true");
      if (open >= 0 && thumbs[open].hidden) show(thumbs.findIndex((thumb) => !thumb.hidden));
    };
    thumbs.forEach((thumb, place) => thumb.addEventListener("click", () => show(place)));
    [score, kind, error, truth, seed].forEach((control) => control && control.addEventListener("input", draw));
    show(0);
    draw();
  }

  // Answers of classifiers: images of one class or all, by what became of them, of one seed.
  for (const gallery of all(document, ".answers-gallery")) {
    const [kind, error, seed] = ["class", "error", "seed"].map((name) => gallery.querySelector("select." + name));
    const draw = () => {
      if (seed) pickSeed(gallery, seed.value);
      const left = all(gallery, "tbody tr").filter((row) => {
        row.hidden = (kind.value !== "" && row.dataset.class !== kind.value)
          || (error.value !== "" && !row.dataset.kinds.split(",").includes(error.value));
        return !row.hidden;
      });
      gallery.querySelector(".none-left").hidden = left.length > 0;
    };
    [kind, error, seed].forEach((control) => control && control.addEventListener("input", draw));
    draw();
  }

  // Cost volume, gate and detections of one image: one class at a time.
  for (const figure of all(document, ".switch")) {
    const select = figure.querySelector("select");
    const maps = all(figure, ".maps");
    const show = () => maps.forEach((map, place) => { map.hidden = place !== Number(select.value); });
    select.addEventListener("input", show);
    show();
  }
})();
