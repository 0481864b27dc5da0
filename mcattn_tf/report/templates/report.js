"use strict";

const report = JSON.parse(document.getElementById("report-data").textContent);
const readable = (name) => name.replaceAll("_", " ");
const signed = (value) => {
  if (value === null) return "-";
  const rounded = Number(value.toFixed(2)) + 0; // no -0
  return (rounded < 0 ? "" : "+") + rounded.toFixed(2);
};

// Tables: a press sorts numbers from the largest, names from A to Z; the next press reverses.
function sortBy(button) {
  const heading = button.closest("th");
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const rows = [...body.rows];
  const text = (row) => row.cells[column].textContent;
  const number = (row) => parseFloat(text(row));
  const isNumber = (row) => !Number.isNaN(number(row));
  const numeric = column > 0 ? rows.some(isNumber) : rows.every(isNumber); // a name may begin with a digit
  const before = heading.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : numeric && column > 0;
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const sign = descending ? -1 : 1;
  rows.sort((first, second) => {
    if (!numeric) return sign * text(first).localeCompare(text(second));
    if (!isNumber(first) || !isNumber(second)) return isNumber(second) - isNumber(first);
    return sign * (number(first) - number(second));
  });
  body.append(...rows);
}

document.addEventListener("click", ({ target }) => target.matches("thead button") && sortBy(target));

// The gallery: one picture has the maps of all attributes of an image, a row for each.
const gallery = report.gallery;
const find = (selector) => document.querySelector(`#gallery ${selector}`);
const findAll = (selector) => [...document.querySelectorAll(`#gallery ${selector}`)];
const chosen = (name) => Number(find(`input[name=${name}]:checked`).value);

async function load(source) {
  const picture = Object.assign(new Image(), { src: source });
  await picture.decode();
  return picture;
}

function draw(canvas, picture, row, column, cells) {
  const [height, width] = cells;
  Object.assign(canvas, { width, height }); // also clears it
  canvas.getContext("2d").drawImage(picture, column * width, row * height, width, height, 0, 0, width, height);
}

// Answers without some cells and masks, from the logit that each cell would give on its own.
const removed = { cells: new Set(), masks: new Set() };

function numbers({ scale, data }, size, start, count) {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)).buffer;
  const integers = size === 1 ? new Int8Array(bytes) : new Int16Array(bytes);
  return Array.from(integers.subarray(start, start + count), (value) => scale * value);
}

function answerAnew(image, attribute) {
  const [height, width] = gallery.methods[0].cells;
  const count = height * width;
  const local = numbers(image.local, 2, attribute * count, count);
  for (const rank of removed.masks) {
    const start = (attribute * image.channels[attribute].length + rank) * count;
    numbers(image.parts, 1, start, count).forEach((value, cell) => (local[cell] -= value));
  }
  const kept = local.filter((_, cell) => !removed.cells.has(cell));
  const highest = Math.max(...kept);
  const shares = kept.map((value) => Math.exp(gallery.sharpness * (value - highest)));
  const total = shares.reduce((sum, share) => sum + share, 0);
  const logit = kept.reduce((sum, value, cell) => sum + value * shares[cell], 0) / total;
  return { local, probability: 1 / (1 + Math.exp(-logit)) };
}

function tellAnew(image, attribute) {
  const count = removed.cells.size;
  const masks = removed.masks.size;
  const parts = [count && `${count} cell${count > 1 ? "s" : ""}`, masks && `${masks} mask${masks > 1 ? "s" : ""}`];
  const without = parts.filter(Boolean).join(" and ");
  const { probability } = answerAnew(image, attribute);
  find("#anew").textContent = without
    ? `p = ${probability.toFixed(3)} without ${without} (${image.probabilities[attribute].toFixed(3)} with all)`
    : "";
  find("#restore").disabled = !without;
}

function forget() {
  removed.cells.clear();
  removed.masks.clear();
  for (const box of findAll(".keep")) box.checked = true;
}

// Whether an answer is a mistake, in a word.
function mistake(image, attribute) {
  const label = image.labels ? image.labels[attribute] : -1;
  const probability = image.probabilities[attribute];
  const answered = gallery.exclusive ? probability === Math.max(...image.probabilities) : probability > 0.5;
  if (label === 1 && !answered) return "missed";
  return label === 0 && answered ? "false" : "";
}

function describe(image, attribute, index) {
  const method = gallery.methods[index];
  const [value, row, column] = image.strongest[index][attribute];
  const label = image.labels && { 1: ", labelled present", 0: ", labelled absent" }[image.labels[attribute]];
  const wrong = mistake(image, attribute);
  find("#chosen").textContent = `${readable(gallery.attributes[attribute])} in ${image.name}`;
  find("#answer").textContent =
    `Probability ${image.probabilities[attribute].toFixed(3)}${label || ""}${wrong && `: ${wrong}`}. Strongest cell: ` +
    `row ${row + 1} of ${method.cells[0]}, column ${column + 1} of ${method.cells[1]}, value ` +
    `${method.signed ? signed(value) : value.toFixed(2)}` +
    (image.boxes[index] ? ". The dashed box is what this cell sees." : ".");
  find(".evidence").setAttribute("aria-label", find("#answer").textContent);
  const limit = image.limits[index].toPrecision(2);
  const sign = method.name === "local_probabilities" ? "" : "\u2265 ";
  find(".scale .low").textContent = method.signed ? `\u2264 -${limit}` : "0";
  find(".scale .high").textContent = `${sign}${limit}`;
  find(".scale .meaning").textContent =
    readable(method.name) + (method.evidence ? ": purple is evidence against, orange for" : "");
  find(".scale").classList.toggle("unsigned", !method.signed);
  find(".evidence").closest("figure").querySelector("figcaption").textContent = readable(method.name);
  document.querySelectorAll("#gallery .about").forEach((text, place) => (text.hidden = place !== index));
}

function box(image, attribute, index) {
  const seen = find(".seen");
  seen.hidden = !image.boxes[index];
  if (seen.hidden) return;
  const [top, left, bottom, right] = image.boxes[index][attribute];
  const shares = Object.entries({ top, left, height: bottom - top, width: right - left });
  for (const [name, share] of shares) seen.style[name] = `${100 * share}%`;
}

// Cells that were taken away are crossed out.
function crossOut(canvas) {
  const width = canvas.width;
  const context = canvas.getContext("2d");
  context.fillStyle = "#000";
  for (const cell of removed.cells) context.fillRect(cell % width, Math.floor(cell / width), 1, 1);
}

// Attributes of the chosen image: the most probable above, mistakes in a word.
function order(image) {
  const rows = findAll(".attributes label");
  const place = (label) => Number(label.firstElementChild.value);
  rows.sort((first, second) => image.probabilities[place(second)] - image.probabilities[place(first)]);
  const focused = document.activeElement;
  find(".attributes .list").append(...rows);
  if (focused.name === "attribute") focused.focus();
  for (const label of rows) {
    const attribute = place(label);
    const probability = image.probabilities[attribute];
    const word = mistake(image, attribute);
    label.querySelector(".bar span").style.width = `${100 * probability}%`;
    label.querySelector(".probability").textContent = probability.toFixed(2);
    label.querySelector(".word").textContent = word;
    label.classList.toggle("mistake", word !== "");
  }
}

let ordered = null; // the image whose order the attributes have

async function show() {
  const index = chosen("image");
  const attribute = chosen("attribute");
  const method = find("#method").selectedIndex;
  const image = gallery.images[index];
  const maps = await load(image.maps[method]);
  const masks = image.masks && (await load(image.masks));
  if (index !== chosen("image") || attribute !== chosen("attribute")) return;
  if (method !== find("#method").selectedIndex) return;
  const photo = findAll(".images img")[index].src;
  for (const picture of findAll(".stack img")) picture.src = photo;
  if (ordered !== index) order(image);
  ordered = index;
  describe(image, attribute, method);
  box(image, attribute, method);
  const { cells } = gallery.methods[method];
  draw(find(".evidence"), maps, attribute, 0, cells);
  findAll(".mask").forEach((canvas, rank) => {
    const [channel, amount] = image.channels[attribute][rank];
    const caption = `mask of channel ${channel}, contribution ${signed(amount)}`;
    draw(canvas, masks, attribute, rank, gallery.methods[0].cells);
    canvas.setAttribute("aria-label", caption);
    const below = canvas.closest("figure").querySelector("figcaption");
    (below.querySelector("label span") || below).textContent = caption;
  });
  if (!image.local) return;
  const whole = String(cells) === String(gallery.methods[0].cells);
  find(".evidence").classList.toggle("anew", whole);
  if (whole) crossOut(find(".evidence"));
  tellAnew(image, attribute);
}

find(".gallery").addEventListener("change", ({ target }) => {
  if (target.matches("[name=image], [name=attribute]")) forget();
  if (target.matches(".keep")) {
    const rank = findAll(".keep").indexOf(target);
    target.checked ? removed.masks.delete(rank) : removed.masks.add(rank);
  }
  show();
});

if (find("#take")) {
  find("#take").addEventListener("click", () => {
    const { local } = answerAnew(gallery.images[chosen("image")], chosen("attribute"));
    if (removed.cells.size + 1 >= local.length) return; // one cell stays
    const kept = local.map((value, cell) => (removed.cells.has(cell) ? -Infinity : value));
    removed.cells.add(kept.indexOf(Math.max(...kept)));
    show();
  });
  find("#restore").addEventListener("click", () => {
    forget();
    show();
  });
  find(".evidence").addEventListener("click", ({ offsetX, offsetY, target }) => {
    if (!target.classList.contains("anew")) return;
    const { width, height, clientWidth, clientHeight } = target;
    const row = Math.min(height - 1, Math.floor((offsetY / clientHeight) * height));
    const cell = row * width + Math.min(width - 1, Math.floor((offsetX / clientWidth) * width));
    if (!removed.cells.delete(cell) && removed.cells.size + 1 < width * height) removed.cells.add(cell);
    show();
  });
}

// Plots take their colours from the page, which is light or dark.
const themed = [];

function theme() {
  const style = getComputedStyle(document.documentElement);
  const names = ["--text", "--quiet", "--line", "--panel"];
  const [text, quiet, line, panel] = names.map((name) => style.getPropertyValue(name).trim());
  const axis = { color: quiet, gridcolor: line, zerolinecolor: line };
  const font = { color: text, family: "inherit", size: 12 };
  const hoverlabel = { bgcolor: panel, font: { color: text } };
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: panel, font, hoverlabel, xaxis: axis, yaxis: axis };
}

function plot(element, figure) {
  const colors = theme();
  const layout = { ...figure.layout, ...colors };
  const axes = Object.keys(figure.layout).filter((name) => /^[xy]axis/.test(name));
  for (const name of axes) layout[name] = { ...figure.layout[name], ...colors[`${name[0]}axis`] };
  const options = { displayModeBar: false, displaylogo: false, responsive: !figure.layout.width };
  Plotly.newPlot(element, figure.data, layout, options);
  themed.push(element);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  const { xaxis, yaxis, ...colors } = theme(); // all axes have the same colours
  for (const element of themed) {
    const axes = Object.keys(element.layout).filter((name) => /^[xy]axis/.test(name));
    const pairs = axes.flatMap((name) => Object.entries(xaxis).map(([key, value]) => [`${name}.${key}`, value]));
    Plotly.relayout(element, { ...colors, ...Object.fromEntries(pairs) });
  }
});

// Correlations: the heat map of one measure, and one of its rows as a table.
function correlation(element) {
  const { figure, names } = report.plots[element.dataset.plot];
  const measure = element.querySelector(".measure");
  const target = element.querySelector(".target");
  const drawn = element.querySelector(".plot");
  const body = element.querySelector("tbody");

  function list() {
    const row = Number(target.value);
    const by = measure ? measure.selectedIndex : 0;
    const size = (column) => Math.abs(figure.data[by].z[row][column] ?? -1);
    const others = [...names.keys()].filter((column) => column !== row);
    others.sort((first, second) => size(second) - size(first));
    body.replaceChildren(
      ...others.map((column) => {
        const line = document.createElement("tr");
        const heading = document.createElement("th");
        heading.scope = "row";
        heading.textContent = readable(names[column]);
        line.append(heading);
        for (const trace of figure.data) line.insertCell().textContent = signed(trace.z[row][column]);
        return line;
      }),
    );
    for (const heading of element.querySelectorAll("th[aria-sort]")) heading.removeAttribute("aria-sort");
  }

  plot(drawn, figure);
  drawn.on("plotly_click", ({ points }) => {
    target.value = points[0].pointIndex[0];
    list();
  });
  target.addEventListener("change", list);
  measure?.addEventListener("change", () => {
    const visible = figure.data.map((_, index) => index === measure.selectedIndex);
    Plotly.restyle(drawn, { visible });
    list();
  });
  list();
}

show();
document.querySelectorAll(".correlation").forEach(correlation);
for (const element of document.querySelectorAll(".curve")) {
  plot(element.querySelector(".plot"), report.curves[element.dataset.curve]);
}
for (const element of document.querySelectorAll(".trust")) {
  plot(element.querySelector(".plot"), report.trust[element.dataset.trust]);
}
