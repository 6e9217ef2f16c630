// The reader's classes: a card for each, with its name, its pictures and the ways to add
// some.
"use strict";

(function (playground) {
  const { element } = playground;
  const MIN_CLASSES = 2;
  const MAX_CLASSES = 5;
  const MAX_PICTURES = 100;
  const byId = (id) => document.getElementById(id);
  const say = (id, text) => (byId(id).textContent = text);

  // A class is {name, pictures}; a picture {pixels, features, kind}: features once they
  // are computed, kind the name of the bundled class that it comes from, or null.
  const classes = [];
  let bundle = [];
  let onChange = () => {};

  const describe = (count, name) => `${count} ${count === 1 ? "picture" : "pictures"} of ${name}`;
  const findName = (entry) => entry.name.trim() || `class ${classes.indexOf(entry) + 1}`;

  function addPictures(entry, pictures) {
    const added = pictures.slice(0, MAX_PICTURES - entry.pictures.length);
    entry.pictures.push(...added);
    const full = added.length < pictures.length ? ` A class holds at most ${MAX_PICTURES}.` : "";
    return { count: added.length, full };
  }

  function report(entry, text) {
    renderCard(entry);
    onChange();
    say("pg-say-examples", text);
  }

  // The first `count` bundled pictures of one kind that the class does not hold yet.
  function fill(entry, kind, count) {
    const { examples } = bundle.find(({ name }) => name === kind);
    const held = new Set(entry.pictures.map(({ pixels }) => pixels));
    const left = examples.filter(({ pixels }) => !held.has(pixels)).slice(0, count);
    const added = addPictures(entry, left.map((picture) => ({ ...picture, kind })));
    if (!entry.name.trim()) entry.name = kind;
    const all = left.length < count ? " These are all that there are." : "";
    report(entry, `${describe(added.count, kind)} added to ${findName(entry)}.${added.full || all}`);
  }

  async function upload(entry, files) {
    const [pictures, problems] = [[], []];
    for (const file of files) {
      await playground.readPicture(file).then(
        (pixels) => pictures.push({ pixels, features: null, kind: null }),
        (error) => problems.push(error.message),
      );
    }
    const { count, full } = addPictures(entry, pictures);
    report(entry, [`${count} added to ${findName(entry)}.${full}`, ...problems].join(" "));
  }

  async function addFrom(entry, source, width, height) {
    const pixels = await playground.crop(source, width, height);
    const { count, full } = addPictures(entry, [{ pixels, features: null, kind: null }]);
    report(entry, `${count} added to ${findName(entry)}.${full}`);
  }

  const addDrawing = (entry) => addFrom(entry, byId("pg-board"), 256, 256);

  function addPhoto(entry) {
    const video = byId("pg-video");
    if (!video.videoWidth) return say("pg-say-examples", "The camera shows nothing yet.");
    return addFrom(entry, video, video.videoWidth, video.videoHeight);
  }

  function removePicture(entry, index) {
    entry.pictures.splice(index, 1);
    report(entry, `Removed; ${describe(entry.pictures.length, findName(entry))} left.`);
    // The button that was pressed is gone: the focus goes to its neighbour.
    const left = entry.card.querySelectorAll(".pg-thumbnail");
    (left[Math.min(index, left.length - 1)] ?? entry.card.querySelector("input")).focus();
  }

  function removeClass(entry) {
    classes.splice(classes.indexOf(entry), 1);
    renderAll();
    say("pg-say-examples", `${entry.name.trim() || "The class"} removed.`);
    byId("pg-add-class").focus();
  }

  function addClass(name = "") {
    classes.push({ name, pictures: [] });
    renderAll();
  }

  function makeNameField(entry, number) {
    const attributes = { type: "text", value: entry.name, maxlength: 30, placeholder: `class ${number}` };
    const rename = (event) => {
      entry.name = event.target.value;
      onChange();
    };
    const input = element("input", { ...attributes, oninput: rename });
    return element("label", { class: "pg-name" }, `Name of class ${number} `, input);
  }

  function makeFillRow(entry, number) {
    const limits = { type: "number", min: 1, max: bundle[0].examples.length, value: 10 };
    const count = element("input", { ...limits, "aria-label": `how many, for class ${number}` });
    const kinds = bundle.map(({ name }) => element("option", {}, name));
    const kind = element("select", { "aria-label": `bundled pictures for class ${number}` }, ...kinds);
    kind.selectedIndex = entry.kindIndex ?? (number - 1) % bundle.length;
    kind.onchange = () => (entry.kindIndex = kind.selectedIndex);
    const press = () => fill(entry, kind.value, Math.max(1, Math.floor(Number(count.value)) || 10));
    const button = element("button", { type: "button", class: "pg-fill", onclick: press }, "Fill");
    return element("div", { class: "pg-row" }, button, " with ", count, " pictures of ", kind);
  }

  function makeAddRow(entry, number) {
    const choose = async (event) => {
      await upload(entry, [...event.target.files]);
    };
    const files = { type: "file", accept: "image/*", multiple: true, onchange: choose };
    const input = element("input", files);
    const button = (text, onclick, extra = {}) => element("button", { type: "button", onclick, ...extra }, text);
    const photo = { class: "pg-photo", hidden: !byId("pg-video").srcObject };
    const row = element("div", { class: "pg-row" });
    row.append(element("label", { class: "pg-upload" }, `Upload for class ${number} `, input));
    row.append(button("Add the drawing", () => addDrawing(entry)));
    row.append(button("Add the camera’s picture", () => addPhoto(entry), photo));
    if (classes.length > MIN_CLASSES) {
      row.append(button("Remove the class", () => removeClass(entry)));
    }
    return row;
  }

  function makeThumbnails(entry) {
    const items = entry.pictures.map(({ pixels }, i) => {
      const label = `Remove picture ${i + 1} of ${findName(entry)}`;
      const onclick = () => removePicture(entry, i);
      const attributes = { type: "button", class: "pg-thumbnail", "aria-label": label, title: label, onclick };
      return element("button", attributes, playground.makeThumbnail(pixels));
    });
    return element("div", { class: "pg-thumbnails" }, ...items);
  }

  function renderCard(entry) {
    const number = classes.indexOf(entry) + 1;
    const count = entry.pictures.length;
    const hint = count ? `${count} ${count === 1 ? "example" : "examples"}; press one to remove it` : "No examples yet";
    const legend = element("legend", {}, `Class ${number}`);
    const note = element("p", { class: "pg-hint" }, hint);
    const rows = [makeNameField(entry, number), makeFillRow(entry, number), makeAddRow(entry, number)];
    const focused = entry.card ? [...entry.card.querySelectorAll("button, input, select")].indexOf(document.activeElement) : -1;
    entry.card ??= element("fieldset", { class: "pg-card" });
    entry.card.replaceChildren(legend, ...rows, note, makeThumbnails(entry));
    if (focused >= 0) entry.card.querySelectorAll("button, input, select")[focused]?.focus();
  }

  function renderAll() {
    classes.forEach(renderCard);
    byId("pg-classes").replaceChildren(...classes.map(({ card }) => card));
    byId("pg-add-class").disabled = classes.length >= MAX_CLASSES;
    onChange();
  }

  async function switchCamera() {
    const [button, video] = [byId("pg-camera"), byId("pg-video")];
    try {
      if (video.srcObject) playground.stopCamera(video);
      else await playground.startCamera(video);
    } catch (error) {
      say("pg-say-examples", error.message);
    }
    const on = Boolean(video.srcObject);
    video.hidden = !on;
    button.textContent = on ? "Stop the camera" : "Use the camera";
    document.querySelectorAll(".pg-photo").forEach((photo) => (photo.hidden = !on));
  }

  // All bundled classes at once, for whoever wants to see it work first.
  function fillAll() {
    const count = 10;
    classes.splice(0, classes.length);
    bundle.forEach(({ name, examples }) => {
      const pictures = examples.slice(0, count).map((picture) => ({ ...picture, kind: name }));
      classes.push({ name, pictures });
    });
    renderAll();
    say("pg-say-examples", `${classes.length} classes with ${count} pictures each. Now train.`);
  }

  function startExamples(pictures, listener) {
    bundle = pictures;
    addClass();
    addClass();
    byId("pg-add-class").onclick = () => addClass();
    byId("pg-fill-all").onclick = fillAll;
    byId("pg-camera").onclick = switchCamera;
    onChange = listener;
    onChange();
  }

  Object.assign(playground, { classes, findName, startExamples, byId, say });
})(window.playground);
