"use strict";
// Every table can be copied as CSV and as LaTeX, and a long one shows only the rows that hold a word.
(() => {
  const LONG = 12; // rows

  const text = (cell) => (cell.innerText || cell.textContent).replace(/\s+/g, " ").trim().replace(/−/g, "-");
  const shown = (node) => !node.hidden && !node.classList.contains("filtered");

  // The heads as one row: a cell above several columns is said before each of them.
  const heads = (table) => {
    const rows = Array.from(table.tHead ? table.tHead.rows : []);
    const grid = rows.map(() => []);
    rows.forEach((row, y) => {
      let x = 0;
      for (const cell of Array.from(row.cells).filter(shown)) {
        while (grid[y][x] !== undefined) x += 1;
        for (let dy = 0; dy < cell.rowSpan && y + dy < rows.length; dy += 1) {
          for (let dx = 0; dx < cell.colSpan; dx += 1) grid[y + dy][x + dx] = dy ? "" : text(cell);
        }
        x += cell.colSpan;
      }
    });
    const width = Math.max(0, ...grid.map((row) => row.length));
    return Array.from({ length: width }, (_, x) => grid.map((row) => row[x] || "").filter(Boolean).join(" "));
  };

  const read = (table) => {
    const body = Array.from(table.tBodies).flatMap((part) => Array.from(part.rows));
    const lines = body.filter(shown).map((row) =>
      Array.from(row.cells).filter(shown).flatMap((cell) => [text(cell), ...Array(cell.colSpan - 1).fill("")]));
    return [heads(table), ...lines];
  };

  const number = (value) => /^[-+]?[\d,]*\.?\d+( %)?$/.test(value);

  const csv = (lines) => lines.map((line) => line.map((value) => {
    const plain = value === "–" ? "" : value;
    return /[",\n]/.test(plain) ? `"${plain.replace(/"/g, '""')}"` : plain;
  }).join(",")).join("\n") + "\n";

  const SIGNS = {
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%",
    "_": "\\_", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$", "–": "--", "×": "$\\times$",
  };
  const escaped = (value) => value.replace(/[\\{}$&#%_~^±–×]/g, (sign) => SIGNS[sign]);

  const latex = (lines) => {
    const columns = lines[0].map((_, x) => (lines.slice(1).some((line) => number(line[x] || "")) ? "r" : "l"));
    const row = (line) => "  " + line.map(escaped).join(" & ") + " \\\\\n";
    const [head, ...body] = lines;
    return `\\begin{tabular}{${columns.join("")}}\n  \\toprule\n${row(head)}  \\midrule\n`
      + `${body.map(row).join("")}  \\bottomrule\n\\end{tabular} % needs \\usepackage{booktabs}\n`;
  };

  // Where the page may not write to the clipboard itself, a selected text is copied as a reader would.
  const byHand = (value) => {
    const area = document.createElement("textarea");
    area.value = value;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };
  const copy = async (value) => {
    try {
      await navigator.clipboard.writeText(value);
      return true;
    } catch {
      return byHand(value);
    }
  };

  const button = (table, name, write) => {
    const made = document.createElement("button");
    const said = "Copy as " + name;
    made.type = "button";
    made.className = "button copy";
    made.dataset.form = name;
    made.textContent = said;
    made.addEventListener("click", async () => {
      const value = write(read(table));
      table.dataset.copied = value.length;
      made.textContent = (await copy(value)) ? "Copied" : "Not copied: the browser refused";
      setTimeout(() => { made.textContent = said; }, 2000);
    });
    return made;
  };

  const filter = (table) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "search";
    input.className = "filter";
    input.addEventListener("input", () => {
      const word = input.value.trim().toLowerCase();
      for (const row of table.tBodies[0].rows) {
        row.classList.toggle("filtered", word !== "" && !row.textContent.toLowerCase().includes(word));
      }
    });
    label.append("Only rows with ", input);
    return label;
  };

  for (const table of document.querySelectorAll(".scroll > table")) {
    const bar = document.createElement("div");
    bar.className = "controls tools";
    const own = table.classList.contains("answers"); // it has choices of its own
    if (!own && table.tBodies.length && table.tBodies[0].rows.length > LONG) bar.append(filter(table));
    bar.append(button(table, "CSV", csv), button(table, "LaTeX", latex));
    table.parentNode.after(bar);
  }
})();
