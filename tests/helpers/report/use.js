// Uses the controls of the report as a reader would and writes what it saw into the document.
window.addEventListener("load", () => {
  const all = (query) => Array.from(document.querySelectorAll(query));
  const visible = (box) => box.style.display !== "none" && !box.closest(".panel").hidden;
  const open = ".gallery .picture:not([hidden])";
  const shown = (state) => all(open + " .box." + state).filter(visible).length;
  const tell = (node, kind) => node.dispatchEvent(new Event(kind, {bubbles: true}));
  const set = (node, value) => { node.value = value; tell(node, "input"); };
  const seen = {};
  const table = document.querySelector("table.data.sortable");
  const names = () => Array.from(table.tBodies[0].rows).map((row) => row.cells[0].dataset.value);
  const head = table.querySelector("thead th");
  head.querySelector("button").click();
  seen.up = [head.getAttribute("aria-sort"), names()];
  head.querySelector("button").click();
  seen.down = [head.getAttribute("aria-sort"), names()];
  const heat = document.querySelector("table.heat");
  const columns = () => Array.from(heat.rows[1].cells).filter((cell) => !cell.hidden).length;
  seen.columns = [columns()];
  const methods = document.querySelector("select.methods");
  methods.value = "1";
  tell(methods, "change");
  seen.columns.push(columns());
  const score = document.querySelector("input[type=range]");
  seen.default = [shown("right"), shown("object"), shown("truth")];
  set(score, 0.95);
  seen.strict = [shown("right"), shown("object")];
  set(score, 0.05);
  seen.loose = [shown("right"), shown("object")];
  const truth = document.querySelector("input[type=checkbox]");
  truth.checked = true;
  tell(truth, "input");
  seen.truth = shown("truth");
  set(document.querySelector("select.class"), all("select.class option")[1].value);
  const boxes = all(open + " .box").filter(visible);
  seen.named = new Set(boxes.map((box) => box.dataset.name)).size;
  set(document.querySelector("select.class"), "");
  const error = document.querySelector("select.error");
  const thumbs = all(".thumbs button");
  truth.checked = false;
  tell(truth, "input");
  seen.kinds = {};
  const kinds = ["right", "wrong", "wrong class", "localisation", "duplicate", "background"];
  for (const kind of [...kinds, "missed"]) {
    set(error, kind);
    const left = all(".gallery .box").filter(visible);
    const sorts = new Set(left.map((box) => box.dataset.kind || box.dataset.state));
    seen.kinds[kind] = [sorts.size, left.length, thumbs.filter((thumb) => !thumb.hidden).length,
      !document.querySelector(".none-left").hidden];
  }
  set(error, "");
  const pick = document.querySelector("select.shown-class");
  const maps = () => all(".switch")[0].querySelectorAll(".maps:not([hidden])");
  seen.maps = [maps().length, maps()[0].querySelectorAll("img")[0].alt];
  set(pick, pick.options[pick.options.length - 1].value);
  seen.maps.push(maps().length, maps()[0].querySelectorAll("img")[0].alt);
  const steps = document.querySelector("select.steps");
  const step = () => all(".step").filter((one) => !one.hidden).map((one) => one.querySelector("svg").getAttribute("aria-label"));
  seen.steps = [step()];
  set(steps, "0");
  seen.steps.push(step());
  const panels = () => Array.from(new Set(all(open + " .panel[data-seed]:not([hidden])").map((one) => one.dataset.seed)));
  seen.seeds = [panels()];
  set(document.querySelector(".gallery select.seed"), "1");
  seen.seeds.push(panels());
  const answers = document.querySelector(".answers-gallery");
  const rows = () => all(".answers tbody tr").filter((row) => !row.hidden);
  const told = () => all(".answers .answer[data-seed]:not([hidden])").map((one) => one.dataset.seed);
  const control = (name) => answers.querySelector("select." + name);
  seen.answers = { all: rows().length, seed: Array.from(new Set(told())) };
  set(control("class"), "a");
  seen.answers.classes = Array.from(new Set(rows().map((row) => row.dataset.class)));
  set(control("class"), "");
  seen.answers.kinds = {};
  for (const kind of ["right", "same task", "earlier task", "later task"]) {
    set(control("error"), kind);
    seen.answers.kinds[kind] = [rows().length, rows().every((row) => row.dataset.kinds.split(",").includes(kind)),
      answers.querySelector(".none-left").hidden];
  }
  set(control("error"), "");
  set(control("seed"), "1");
  seen.answers.other = Array.from(new Set(told()));
  const focusable = all("a[href], button, select, input, summary, [tabindex='0']").filter((node) =>
    node.offsetParent !== null && !node.hidden);
  seen.unnamed = focusable.filter((node) => !(node.textContent.trim() || node.getAttribute("aria-label")
    || node.closest("label") || node.querySelector("title, img[alt]"))).map((node) => node.outerHTML.slice(0, 120));
  seen.order = all("[tabindex]").filter((node) => node.tabIndex > 0).length;
  seen.broken = all("img").filter((node) => node.complete && !node.naturalWidth).length;
  thumbs[1].click();
  seen.thumb = [thumbs[1].getAttribute("aria-pressed"), all(open).length];
  const theme = document.getElementById("theme");
  const paper = () => getComputedStyle(document.body).backgroundColor;
  theme.click();
  const light = paper();
  theme.click();
  seen.theme = light !== paper();
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.faults = window.faults;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
