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

function draw(canvas, picture, row, column) {
  const [height, width] = gallery.cells;
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  context.drawImage(picture, column * width, row * height, width, height, 0, 0, width, height);
}

function describe(image, attribute) {
  const [value, row, column] = image.strongest[attribute];
  const label = image.labels && { 1: ", labelled present", 0: ", labelled absent" }[image.labels[attribute]];
  find("#chosen").textContent = `${readable(gallery.attributes[attribute])} in ${image.name}`;
  find("#answer").textContent =
    `Probability ${image.probabilities[attribute].toFixed(3)}${label || ""}. Strongest cell: ` +
    `row ${row + 1} of ${gallery.cells[0]}, column ${column + 1} of ${gallery.cells[1]}, value ` +
    `${gallery.signed ? signed(value) : value.toFixed(2)}` +
    (image.boxes ? ". The dashed box is what this cell sees." : ".");
  find(".evidence").setAttribute("aria-label", find("#answer").textContent);
  const limit = image.limit.toPrecision(2);
  find(".scale .low").textContent = gallery.signed ? `\u2264 -${limit}` : "0";
  find(".scale .high").textContent = `\u2265 ${limit}`;
}

function box(image, attribute) {
  const seen = find(".seen");
  seen.hidden = !image.boxes;
  if (!image.boxes) return;
  const [top, left, bottom, right] = image.boxes[attribute];
  const shares = Object.entries({ top, left, height: bottom - top, width: right - left });
  for (const [name, share] of shares) seen.style[name] = `${100 * share}%`;
}

async function show() {
  const index = chosen("image");
  const attribute = chosen("attribute");
  const image = gallery.images[index];
  const maps = await load(image.maps);
  const masks = image.masks && (await load(image.masks));
  if (index !== chosen("image") || attribute !== chosen("attribute")) return;
  const photo = findAll(".images img")[index].src;
  for (const picture of findAll(".stack img")) picture.src = photo;
  describe(image, attribute);
  box(image, attribute);
  draw(find(".evidence"), maps, attribute, 0);
  findAll(".mask").forEach((canvas, rank) => {
    const [channel, amount] = image.channels[attribute][rank];
    const caption = `mask of channel ${channel}, contribution ${signed(amount)}`;
    draw(canvas, masks, attribute, rank);
    canvas.setAttribute("aria-label", caption);
    canvas.closest("figure").querySelector("figcaption").textContent = caption;
  });
  findAll(".attributes label").forEach((label, row) => {
    const probability = image.probabilities[row];
    label.querySelector(".bar span").style.width = `${100 * probability}%`;
    label.querySelector(".probability").textContent = probability.toFixed(2);
  });
}

find(".gallery").addEventListener("change", show);
find(".attributes .list").scrollTop = find(".attributes :checked").parentElement.offsetTop - 40;

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
  for (const name of ["xaxis", "yaxis"]) layout[name] = { ...figure.layout[name], ...colors[name] };
  const options = { displayModeBar: false, displaylogo: false, responsive: !figure.layout.width };
  Plotly.newPlot(element, figure.data, layout, options);
  themed.push(element);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  const { xaxis, yaxis, ...colors } = theme(); // the axes have the same colours
  for (const [key, value] of Object.entries(xaxis)) {
    for (const name of ["xaxis", "yaxis"]) colors[`${name}.${key}`] = value;
  }
  for (const element of themed) Plotly.relayout(element, colors);
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
