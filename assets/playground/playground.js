// The page: trains, compares, and draws the curve.
"use strict";

(function (playground) {
  const { byId, classes, element, findName, say } = playground;
  const SIZES = [1, 2, 5, 10, 20, 40, 60, 80, 100];
  const { argmax, makeLive, percent, showPrediction, state, takeTests } = playground;
  const countEach = () => Math.min(...classes.map(({ pictures }) => pictures.length));

  // Why training cannot begin yet, or "".
  function findObstacle() {
    const names = classes.map(findName);
    const filled = classes.filter(({ pictures }) => pictures.length > 0);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (filled.length === 0) return "Give at least two classes an example each.";
    if (filled.length === 1) {
      return `Only ${findName(filled[0])} has examples. With one class there is nothing to tell apart: give a second class an example.`;
    }
    if (filled.length < classes.length) {
      const empty = classes.find(({ pictures }) => pictures.length === 0);
      return `${findName(empty)} has no examples: give it some, or remove it.`;
    }
    if (twice !== undefined) return `Two classes are called ${twice}: rename one.`;
    return "";
  }

  // What was trained belongs to the examples as they were: forget it.
  function forget() {
    state.version += 1;
    state.scratch?.dispose();
    Object.assign(state, { head: null, scratch: null, classNames: null });
    state.curve = { probe: new Map(), scratch: new Map(), pixels: new Map() };
    const obstacle = findObstacle();
    byId("pg-train").disabled = obstacle !== "";
    say("pg-ready", obstacle || "Ready to train.");
    const largest = Math.max(1, countEach());
    Object.assign(byId("pg-count"), { max: largest, value: largest, disabled: largest === 1 });
    showCount();
    byId("pg-download").disabled = true;
    byId("pg-results").replaceChildren();
    byId("pg-curve").replaceChildren();
    showPrediction();
  }

  function showCount() {
    const { value, max } = byId("pg-count");
    say("pg-count-value", `${value} of ${max}`);
  }

  // The first `count` examples of every class: pictures, and the number of their class.
  function takeExamples(count) {
    const pictures = classes.map((entry) => entry.pictures.slice(0, count));
    return { pictures: pictures.flat(), labels: pictures.flatMap((list, k) => list.map(() => k)) };
  }

  const score = (rows, labels) => rows.filter((row, i) => argmax(row) === labels[i]).length / rows.length;

  async function extractMissing(pictures) {
    const missing = pictures.filter(({ features }) => !features);
    const features = await playground.backbone.extract(missing.map(({ pixels }) => pixels));
    missing.forEach((picture, i) => (picture.features = features[i]));
  }

  // A head on `key` ("features" or "pixels") of the first `count` examples a class.
  function fitHead(key, count) {
    const { pictures, labels } = takeExamples(count);
    return playground.trainHead(pictures.map((picture) => picture[key]), labels, classes.length);
  }

  function scoreHead(head, key, tests) {
    return score(tests.pictures.map((picture) => playground.predictHead(head, picture[key])), tests.labels);
  }

  // Until the browser has drawn what the page shows now.
  const paint = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

  async function train() {
    const { version } = state;
    const controls = [byId("pg-train"), byId("pg-count")];
    const [, wasDisabled] = controls.map(({ disabled }) => disabled);
    controls.forEach((control) => (control.disabled = true));
    try {
      await trainBoth(version, Number(byId("pg-count").value));
    } catch (error) {
      say("pg-say-train", `Training broke off (${error.message}). Try it again.`);
    }
    if (version !== state.version) return; // the controls belong to other examples now
    byId("pg-train").disabled = false;
    byId("pg-count").disabled = wasDisabled;
  }

  // The head at once, then the network from scratch if it is asked for.
  async function trainBoth(version, count) {
    const pictures = classes.flatMap((entry) => entry.pictures);
    say("pg-say-train", `Computing the features of ${pictures.length} pictures …`);
    await extractMissing(pictures);
    if (version !== state.version) return;
    const start = performance.now();
    state.head = fitHead("features", count);
    state.seconds = (performance.now() - start) / 1000;
    state.classNames = classes.map(findName);
    showTrained(count);
    await drawCurve(count);
    if (!byId("pg-scratch").checked || version !== state.version) return;
    await trainFromScratch(version, count);
    if (version === state.version) await drawCurve(count);
  }

  async function trainFromScratch(version, count) {
    const { pictures, labels } = takeExamples(count);
    const progress = byId("pg-progress");
    progress.hidden = false;
    const onProgress = (part) => {
      progress.value = part;
      return version === state.version && byId("pg-scratch").checked;
    };
    const pixels = pictures.map((picture) => picture.pixels);
    const slow = playground.backend === "cpu" ? " Without WebGL this takes minutes; untick the box to stop." : "";
    say("pg-say-train", `Training a network from scratch …${slow}`);
    await paint();
    const start = performance.now();
    const model = await playground.trainScratch(pixels, labels, classes.length, { onProgress });
    progress.hidden = true;
    if (!model) return say("pg-say-train", "Training from scratch was stopped.");
    state.scratch?.dispose();
    Object.assign(state, { scratch: model, scratchSeconds: (performance.now() - start) / 1000 });
    const tests = takeTests();
    if (tests) {
      const rows = await playground.predictScratch(model, tests.pictures.map((picture) => picture.pixels));
      state.curve.scratch.set(count, score(rows, tests.labels));
    }
    showTrained(count);
  }

  // Both results side by side, and in one sentence for those who listen.
  function showTrained(count) {
    byId("pg-download").disabled = false;
    const tests = takeTests();
    if (tests && !state.curve.probe.has(count)) {
      state.curve.probe.set(count, scoreHead(state.head, "features", tests));
    }
    const results = [["probe", state.seconds]];
    if (state.scratch) results.push(["scratch", state.scratchSeconds]);
    const boxes = results.map(([key, seconds]) => makeResult(key, seconds, state.curve[key].get(count)));
    byId("pg-results").replaceChildren(...boxes);
    const measured = tests
      ? `Measured on ${tests.pictures.length} bundled test pictures of ${tests.kinds.join(", ")}; none was trained on.`
      : "No accuracy: it is measured where at least two classes hold nothing but bundled pictures, each of its own kind. Try it below with pictures of your own.";
    const sentences = results.map(([key]) => {
      const accuracy = state.curve[key].get(count);
      return `${playground.STRATEGIES[key].name}: ${accuracy === undefined ? "trained" : `${percent(accuracy)} right`}.`;
    });
    say("pg-say-train", `Examples a class: ${count}. ${sentences.join(" ")} ${measured}`);
    showPrediction();
  }

  function makeResult(key, seconds, accuracy) {
    const { name } = playground.STRATEGIES[key];
    const score = accuracy === undefined ? "trained" : `${percent(accuracy)} right`;
    const big = element("strong", {}, score);
    const time = ` trained in ${seconds < 0.1 ? "less than 0.1" : seconds.toFixed(1)} s`;
    return element("div", { class: `pg-result pg-${key}` }, element("span", {}, name), big, element("span", {}, time));
  }

  // Heads for all sizes up to `count`; what is known already is not computed again.
  async function drawCurve(count) {
    const { version } = state;
    const tests = takeTests();
    const sizes = [...new Set([...SIZES.filter((size) => size < count), count])];
    if (!tests) {
      return byId("pg-curve").replaceChildren(element("p", {}, "The curve needs at least two classes of bundled pictures."));
    }
    for (const size of sizes) {
      for (const [name, key] of [["probe", "features"], ["pixels", "pixels"]]) {
        if (state.curve[name].has(size)) continue;
        state.curve[name].set(size, scoreHead(fitHead(key, size), key, tests));
        await paint(); // let the page live between two heads
        if (version !== state.version) return;
      }
    }
    if (count !== Number(byId("pg-count").value)) return; // the slider has moved on
    const choose = (map, isWanted) => [...map].filter(([n]) => isWanted(n)).sort(([a], [b]) => a - b);
    const series = {
      probe: choose(state.curve.probe, (n) => sizes.includes(n)),
      scratch: choose(state.curve.scratch, (n) => n <= count),
      pixels: choose(state.curve.pixels, (n) => sizes.includes(n)),
    };
    playground.drawCurve(byId("pg-curve"), series, 1 / classes.length);
  }

  async function moveSlider() {
    showCount();
    if (!state.head) return;
    const count = Number(byId("pg-count").value);
    state.head = fitHead("features", count);
    // The network from scratch stays at the number of examples that it was trained with.
    if (!state.curve.scratch.has(count)) {
      state.scratch?.dispose();
      state.scratch = null;
    }
    showTrained(count);
    await drawCurve(count);
  }

  function download() {
    const text = playground.toFile(state.head, state.classNames);
    const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    element("a", { href: address, download: "head.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
    say("pg-say-download", "head.json is in your downloads.");
  }

  function connect() {
    byId("pg-train").onclick = train;
    byId("pg-count").oninput = makeLive(moveSlider);
    byId("pg-download").onclick = download;
  }

  async function start() {
    try {
      Object.assign(playground, await playground.load(byId("pg-page")));
    } catch (error) {
      say("pg-status", `The network could not be loaded (${error.message}). In a copy of the book, run make serve and open the address that it prints.`);
      throw error;
    }
    playground.startExamples(playground.bundle, forget);
    connect();
    playground.startAnswers();
    const speed = playground.backend === "cpu" ? " There is no WebGL here, so your own pictures take a little longer." : "";
    say("pg-status", `The network is loaded and runs on your device.${speed}`);
    document.querySelectorAll(".playground[hidden]").forEach((part) => (part.hidden = false));
  }

  playground.ready = start();
})(window.playground);
