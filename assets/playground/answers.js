// Answers: what the head, and the network from scratch, make of one picture.
"use strict";

(function (playground) {
  const { byId, classes, element, say, STRATEGIES } = playground;
  // What the page has trained, and the picture that it shows.
  const state = { head: null, scratch: null, version: 0, curve: null, shown: null };
  const chance = playground.makeRandom(0);

  const argmax = (values) => values.indexOf(Math.max(...values));
  const percent = (value) => `${Math.round(100 * value)} %`;

  // Bundled test pictures of those classes that hold bundled pictures of one kind only.
  function takeTests() {
    const kinds = classes.map(({ pictures }) => {
      const found = new Set(pictures.map(({ kind }) => kind));
      return found.size === 1 ? [...found][0] : null;
    });
    const measured = kinds.filter((kind, k) => kind && kinds.indexOf(kind) === k && kinds.lastIndexOf(kind) === k);
    if (measured.length < 2) return null;
    const tests = measured.map((kind) => playground.bundle.find(({ name }) => name === kind).tests);
    const labels = tests.flatMap((list, i) => list.map(() => kinds.indexOf(measured[i])));
    return { pictures: tests.flat(), labels, kinds: measured };
  }

  function makeBars(key, probabilities) {
    const rows = probabilities.map((probability, k) => {
      const meter = element("span", { class: "pg-bar", "aria-hidden": "true" });
      meter.style.setProperty("--part", probability);
      return element("li", {}, element("span", {}, state.classNames[k]), meter, element("span", {}, percent(probability)));
    });
    const title = element("p", {}, STRATEGIES[key].name);
    return element("div", { class: `pg-answer pg-${key}` }, title, element("ul", {}, ...rows));
  }

  // Predict for `state.shown`, {picture, text}; several calls at once: the last one wins.
  async function showPrediction() {
    const target = byId("pg-answers");
    const { shown, head, scratch } = state;
    if (!shown || !head) {
      target.replaceChildren();
      return say("pg-say-try", shown ? "Train first; then the answer appears here." : "");
    }
    const { picture } = shown;
    if (!picture.features) [picture.features] = await playground.backbone.extract([picture.pixels]);
    if (state.shown !== shown || state.head !== head) return;
    const answers = { probe: playground.predictHead(head, picture.features) };
    if (scratch) [answers.scratch] = await playground.predictScratch(scratch, [picture.pixels]);
    if (state.shown !== shown || state.head !== head) return;
    target.replaceChildren(...Object.entries(answers).map(([key, values]) => makeBars(key, values)));
    const parts = Object.entries(answers).map(([key, values]) => {
      const best = argmax(values);
      return `${STRATEGIES[key].name}: ${state.classNames[best]}, ${percent(values[best])}.`;
    });
    say("pg-say-try", `${shown.text} ${parts.join(" ")}`);
  }

  function show(picture, text) {
    state.shown = { picture, text };
    playground.drawPixels(picture.pixels, byId("pg-shown"));
    return showPrediction();
  }

  async function showDrawing() {
    const pixels = await playground.crop(byId("pg-board"), 256, 256);
    await show({ pixels, features: null }, "Your drawing.");
  }

  function showByChance() {
    const kinds = takeTests()?.kinds ?? playground.bundle.map(({ name }) => name);
    const kind = kinds[Math.floor(chance() * kinds.length)];
    const { tests } = playground.bundle.find(({ name }) => name === kind);
    return show(tests[Math.floor(chance() * tests.length)], `A test picture: ${kind}.`);
  }

  async function showUpload({ target }) {
    const [file] = target.files;
    if (!file) return;
    try {
      await show({ pixels: await playground.readPicture(file), features: null }, `${file.name}.`);
    } catch (error) {
      say("pg-say-try", error.message);
    }
  }

  // A task that is asked for faster than it can be done, while a line is drawn or the slider
  // moves: one at a time, and the last one for certain.
  function makeLive(task) {
    let [busy, again] = [false, false];
    return async function run() {
      if (busy) return (again = true);
      busy = true;
      await task();
      busy = false;
      if (again) {
        again = false;
        run();
      }
    };
  }

  function startAnswers() {
    const board = byId("pg-board");
    const live = makeLive(showDrawing);
    const getColor = () => byId("pg-color").value;
    playground.makeDrawable(board, { getColor, getWidth: () => Number(byId("pg-width").value), onChange: live });
    byId("pg-wipe").onclick = () => {
      playground.wipe(board);
      live();
    };
    byId("pg-drawing").onclick = showDrawing;
    byId("pg-chance").onclick = showByChance;
    byId("pg-try").onchange = showUpload;
  }

  Object.assign(playground, { argmax, makeLive, percent, showPrediction, startAnswers, state, takeTests });
})(window.playground);
