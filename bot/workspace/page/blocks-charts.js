/**
 * `data_visualization` as SVG: line, bar, area and pie, with axes, legend and a table of the same numbers for those
 * who cannot see it.
 */
import { h, svg } from "./dom.js";

const MARGIN = { left: 56, right: 12, top: 12, bottom: 34 };
const WIDEST = 560;
const HEIGHT = 280;
const LETTER_PX = 6.6;
const SLANT = Math.sin((35 / 180) * Math.PI);
const COLOURS = 12;
const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 4 });

/** The figure of a chart block; drawn for the width it has, so that its words can be read in a narrow pane too. */
export function chart(block) {
  const { chart: spec } = block;
  const draw = (width) => (spec.type === "pie" ? pie(spec, width) : axes(spec, width));
  const first = draw(WIDEST);
  const legend = h(
    "ul",
    { class: "chart-legend" },
    first.names.map((name, at) =>
      h("li", {}, h("span", { class: `swatch series-${at % COLOURS}`, "aria-hidden": "true" }), name),
    ),
  );
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDEST} ${HEIGHT}`, role: "img", "aria-label": `${block.title}, ${spec.type} chart` },
    first.marks,
  );
  fitted(picture, (width) => draw(width).marks);
  return h(
    "figure",
    { class: "chart", "data-testid": "chart" },
    h("figcaption", {}, block.title),
    picture,
    first.names.length > 1 || spec.type === "pie" ? legend : null,
    h("details", { class: "chart-data" }, h("summary", {}, "Show the numbers"), numbers(first.table)),
  );
}

function fitted(picture, marks) {
  let drawn = WIDEST;
  new ResizeObserver(([{ contentRect }]) => {
    const width = Math.round(Math.min(WIDEST, Math.max(240, contentRect.width)));
    if (contentRect.width === 0 || Math.abs(width - drawn) < 12) return;
    drawn = width;
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    picture.replaceChildren(...marks(width).flat(Infinity).filter(Boolean));
  }).observe(picture);
}

function numbers([head, ...rows]) {
  const cells = (tag, row) =>
    row.map((value, at) => h(at === 0 ? "th" : tag, { class: at === 0 ? "" : "align-right" }, value));
  return h(
    "div",
    { class: "table-frame", tabindex: "0" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, cells("th", head))),
      h(
        "tbody",
        {},
        rows.map((row) => h("tr", {}, cells("td", row))),
      ),
    ),
  );
}

function pie({ segments }, width) {
  const total = segments.reduce((sum, segment) => sum + segment.value, 0) || 1;
  const [x, y, radius] = [width / 2, HEIGHT / 2, Math.min(width, HEIGHT) / 2 - 12];
  let from = -Math.PI / 2;
  const marks = segments.map((segment, at) => {
    const to = from + (segment.value / total) * Math.PI * 2;
    const mark = svg(
      "path",
      { class: `slice series-${at % COLOURS}`, d: slice(x, y, radius, from, to) },
      tip(`${segment.label}: ${NUMBER.format(segment.value)} (${percent(segment.value / total)})`),
    );
    from = to;
    return mark;
  });
  return {
    marks,
    names: segments.map((segment) => `${segment.label} · ${percent(segment.value / total)}`),
    table: [["", "Value"], ...segments.map((segment) => [segment.label, NUMBER.format(segment.value)])],
  };
}

const percent = (share) => `${Math.round(share * 1000) / 10}%`;
const tip = (text) => svg("title", {}, text);

function slice(x, y, radius, from, to) {
  if (to - from > Math.PI * 2 - 1e-6)
    return `M${x - radius} ${y}a${radius} ${radius} 0 1 0 ${radius * 2} 0a${radius} ${radius} 0 1 0 ${-radius * 2} 0Z`;
  const point = (angle) =>
    `${(x + radius * Math.cos(angle)).toFixed(2)} ${(y + radius * Math.sin(angle)).toFixed(2)}`;
  return `M${x} ${y}L${point(from)}A${radius} ${radius} 0 ${to - from > Math.PI ? 1 : 0} 1 ${point(to)}Z`;
}

/** Round numbers that frame `low` to `high` in about four steps. */
function ticks(low, high) {
  const span = high - low || Math.abs(high) || 1;
  const rough = span / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let at = Math.floor(low / step); at * step < high + step * 0.999; at += 1) found.push(at * step);
  return found;
}

function axes(spec, full) {
  const { categories, x_label: xLabel, y_label: yLabel } = spec.axis_config;
  const series = spec.series.map(({ name, data }) => ({
    name,
    values: categories.map((label) => data.find((point) => point.label === label)?.value ?? null),
  }));
  const all = series.flatMap(({ values }) => values).filter((value) => value !== null);
  const fromZero = spec.type !== "line";
  const marks = ticks(Math.min(...all, fromZero ? 0 : Infinity), Math.max(...all, fromZero ? 0 : -Infinity));
  const frame = framed(categories, marks, { xLabel, yLabel, full });
  return {
    names: series.map(({ name }) => name),
    marks: [frame.marks, DRAWINGS[spec.type](series, categories, frame), zeroLine(frame, marks)],
    table: [
      ["", ...series.map(({ name }) => name)],
      ...categories.map((label, at) => [
        label,
        ...series.map(({ values }) => (values[at] === null ? "–" : NUMBER.format(values[at]))),
      ]),
    ],
  };
}

function zeroLine({ y, left, right }, marks) {
  return marks[0] < 0 ? [svg("line", { class: "axis", x1: left, x2: right, y1: y(0), y2: y(0) })] : [];
}

/** The grid and its labels, and how to turn a value or a category into a place. */
function framed(categories, marks, { xLabel, yLabel, full }) {
  const right = full - MARGIN.right;
  const room = (full - MARGIN.left - 16) / categories.length / LETTER_PX;
  const labels = categories.map((label) => (label.length > room ? inTwo(label) : [label]));
  const slanted = labels.flat().some((line) => line.length > room);
  const rise = Math.max(...categories.map((label) => label.length)) * LETTER_PX * SLANT;
  const lines = slanted ? 1 : Math.max(...labels.map((label) => label.length));
  const left = MARGIN.left + (yLabel ? 16 : 0);
  const bottom = HEIGHT - MARGIN.bottom - (xLabel ? 18 : 0) - (slanted ? rise : (lines - 1) * 14);
  const width = right - left;
  const band = width / categories.length;
  const [low, high] = [marks[0], marks.at(-1)];
  const y = (value) => bottom - ((value - low) / (high - low || 1)) * (bottom - MARGIN.top);
  const x = (at) => left + band * (at + 0.5);
  const grid = marks.flatMap((value) => [
    svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    svg(
      "text",
      { class: "tick", x: left - 8, y: y(value) + 4, "text-anchor": "end" },
      NUMBER.format(Math.round(value * 1e6) / 1e6),
    ),
  ]);
  const names = categories.map((label, at) =>
    slanted
      ? slantedLabel(label, x(at), bottom + 14)
      : labels[at].map((line, row) =>
          svg("text", { class: "tick", x: x(at), y: bottom + 18 + row * 14, "text-anchor": "middle" }, line),
        ),
  );
  const titles = [
    xLabel
      ? svg(
          "text",
          { class: "axis-label", x: left + width / 2, y: HEIGHT - 4, "text-anchor": "middle" },
          xLabel,
        )
      : null,
    yLabel
      ? svg(
          "text",
          {
            class: "axis-label",
            transform: `translate(14 ${(MARGIN.top + bottom) / 2}) rotate(-90)`,
            "text-anchor": "middle",
          },
          yLabel,
        )
      : null,
  ];
  return { marks: [grid, names, titles], x, y, band, left, right, base: y(Math.max(low, Math.min(0, high))) };
}

/** A label as two lines of about the same length, where it has a space to break at. */
function inTwo(label) {
  const spaces = [...label].map((letter, at) => (letter === " " ? at : -1)).filter((at) => at > 0);
  if (spaces.length === 0) return [label];
  const middle = spaces.reduce((best, at) =>
    Math.abs(at - label.length / 2) < Math.abs(best - label.length / 2) ? at : best,
  );
  return [label.slice(0, middle), label.slice(middle + 1)];
}

const slantedLabel = (label, x, y) =>
  svg("text", { class: "tick", transform: `translate(${x} ${y}) rotate(-35)`, "text-anchor": "end" }, label);

function bars(series, categories, { x, y, band, base }) {
  const width = Math.min(44, (band * 0.74) / series.length);
  return series.flatMap(({ name, values }, which) =>
    values.map((value, at) => {
      if (value === null) return null;
      const left = x(at) + (which - series.length / 2) * width;
      const props = {
        class: `bar series-${which % COLOURS}`,
        x: left + 1,
        width: Math.max(1, width - 2),
        y: Math.min(y(value), base),
        height: Math.max(1, Math.abs(y(value) - base)),
        rx: 2,
      };
      return svg("rect", props, tip(`${name}, ${categories[at]}: ${NUMBER.format(value)}`));
    }),
  );
}

function pathOf(values, { x, y }) {
  let pen = "M";
  return values
    .map((value, at) => {
      if (value === null) {
        pen = "M";
        return "";
      }
      const step = `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return step;
    })
    .join("");
}

function linesAndDots(series, categories, frame) {
  return series.flatMap(({ name, values }, which) => [
    svg("path", { class: `line series-${which % COLOURS}`, d: pathOf(values, frame) }),
    ...values.map((value, at) =>
      value === null
        ? null
        : svg(
            "circle",
            { class: `dot series-${which % COLOURS}`, cx: frame.x(at), cy: frame.y(value), r: 3.5 },
            tip(`${name}, ${categories[at]}: ${NUMBER.format(value)}`),
          ),
    ),
  ]);
}

function areas(series, categories, frame) {
  const last = categories.length - 1;
  const filled = series.map(({ values }, which) => {
    const closed = `${pathOf(
      values.map((value) => value ?? 0),
      frame,
    )}L${frame.x(last).toFixed(1)} ${frame.base}L${frame.x(0).toFixed(1)} ${frame.base}Z`;
    return svg("path", { class: `area series-${which % COLOURS}`, d: closed });
  });
  return [...filled, ...linesAndDots(series, categories, frame)];
}

const DRAWINGS = { bar: bars, line: linesAndDots, area: areas };
