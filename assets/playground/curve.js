// The learning curve as inline SVG: accuracy against the number of examples a class.
"use strict";

(function (playground) {
  const { element } = playground;
  const [MIN_WIDTH, MAX_WIDTH, HEIGHT] = [300, 560, 320];
  const [LEFT, RIGHT, TOP, BOTTOM] = [56, 16, 16, 50];
  const TICKS = [1, 2, 5, 10, 20, 50, 100];
  // The colour of each strategy is the book's (transfer_tutorial.plots); the shape of the
  // points and the dashes say the same to those who see no difference in colour.
  const STRATEGIES = {
    probe: { name: "Head on frozen features", color: "#0072B2", dash: "", shape: "circle" },
    scratch: { name: "Network from scratch", color: "#D55E00", dash: "7 4", shape: "square" },
    pixels: { name: "Head on raw pixels", color: "#7F7F7F", dash: "2 4", shape: "triangle" },
  };

  function svg(tag, attributes, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function makePoint(shape, x, y, color) {
    if (shape === "circle") return svg("circle", { cx: x, cy: y, r: 5, fill: color });
    const corners = shape === "square" ? [[-5, -5], [5, -5], [5, 5], [-5, 5]] : [[0, -6], [6, 5], [-6, 5]];
    const points = corners.map(([dx, dy]) => `${x + dx},${y + dy}`).join(" ");
    return svg("polygon", { points, fill: color });
  }

  // Places on the drawing: the number of examples on a logarithmic axis.
  function makeAxes(largest, width) {
    const end = Math.log(Math.max(largest, 2));
    const x = (n) => LEFT + ((width - LEFT - RIGHT) * Math.log(n)) / end;
    const y = (accuracy) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - accuracy);
    const text = (content, attributes) => svg("text", { fill: "currentColor", ...attributes }, content);
    const group = svg("g", { "font-size": 14, stroke: "none" });
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
      const line = { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) };
      group.append(svg("line", { ...line, stroke: "currentColor", "stroke-opacity": 0.2 }));
      group.append(text(value.toFixed(2), { x: LEFT - 8, y: y(value) + 5, "text-anchor": "end" }));
    }
    for (const n of TICKS.filter((tick) => tick <= Math.max(largest, 2))) {
      group.append(text(n, { x: x(n), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle" }));
    }
    const middle = (HEIGHT - BOTTOM + TOP) / 2;
    const turned = { x: 14, y: middle, transform: `rotate(-90 14 ${middle})`, "text-anchor": "middle" };
    group.append(text("accuracy on test pictures", turned));
    const below = { x: (width + LEFT - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" };
    group.append(text("examples a class", below));
    return { group, x, y };
  }

  function makeLine({ color, dash, shape }, points, { x, y }) {
    const path = points.map(([n, accuracy]) => `${x(n)},${y(accuracy)}`).join(" ");
    const line = { points: path, fill: "none", stroke: color, "stroke-width": 2.5, "stroke-dasharray": dash };
    return [
      svg("polyline", line),
      ...points.map(([n, accuracy]) => makePoint(shape, x(n), y(accuracy), color)),
    ];
  }

  function makeLegend(keys) {
    const items = keys.map((key) => {
      const { name, color, dash, shape } = STRATEGIES[key];
      const line = { x1: 0, x2: 34, y1: 8, y2: 8, stroke: color, "stroke-width": 2.5, "stroke-dasharray": dash };
      const sample = svg("svg", { width: 34, height: 16, "aria-hidden": "true" });
      sample.append(svg("line", line), makePoint(shape, 17, 8, color));
      return element("li", {}, sample, ` ${name}`);
    });
    return element("ul", { class: "pg-legend" }, ...items);
  }

  function makeTable(keys, series) {
    const sizes = [...new Set(keys.flatMap((key) => series[key].map(([n]) => n)))].sort((a, b) => a - b);
    const head = keys.map((key) => element("th", { scope: "col" }, STRATEGIES[key].name));
    const rows = sizes.map((n) => {
      const cells = keys.map((key) => {
        const found = series[key].find(([size]) => size === n);
        return element("td", {}, found ? found[1].toFixed(2) : "not run");
      });
      return element("tr", {}, element("th", { scope: "row" }, String(n)), ...cells);
    });
    const top = element("tr", {}, element("th", { scope: "col" }, "examples a class"), ...head);
    const table = element("table", {}, element("thead", {}, top), element("tbody", {}, ...rows));
    const scroll = element("div", { class: "pg-scroll", tabindex: 0 }, table);
    return element("details", {}, element("summary", {}, "The same in numbers"), scroll);
  }

  // `series`: for each strategy [[examples a class, accuracy], ...], in rising order.
  function drawCurve(target, series, chance) {
    const keys = Object.keys(STRATEGIES).filter((key) => series[key]?.length);
    const largest = Math.max(...keys.flatMap((key) => series[key].map(([n]) => n)));
    const label = "Accuracy against examples a class; the same in numbers follows.";
    // As wide as its place, so that the text keeps its size on a telephone.
    const width = Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, target.clientWidth));
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": label });
    const axes = makeAxes(largest, width);
    const guess = { x1: LEFT, x2: width - RIGHT, y1: axes.y(chance), y2: axes.y(chance) };
    const dashes = { stroke: "currentColor", "stroke-dasharray": "1 5", "stroke-width": 2 };
    const name = { x: width - RIGHT, y: axes.y(chance) + 17, fill: "currentColor", "text-anchor": "end" };
    drawing.append(axes.group, svg("line", { ...guess, ...dashes }));
    drawing.append(svg("text", { ...name, "font-size": 13 }, "guessing"));
    for (const key of keys) drawing.append(...makeLine(STRATEGIES[key], series[key], axes));
    target.replaceChildren(drawing, makeLegend(keys), makeTable(keys, series));
  }

  Object.assign(playground, { drawCurve, STRATEGIES });
})(window.playground);
