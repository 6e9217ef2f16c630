// The frozen network: reads what tools/export_playground.py wrote, and rebuilds the
// layers with TensorFlow.js. Every script of the page adds its functions to the one
// object `window.playground`.
"use strict";

window.playground = window.playground || {};

(function (playground) {
  const FILES = ["model.json", "weights.bin", "pictures.json", "pictures.bin", "features.bin"];
  const BATCH = 16; // pictures at a time: the page can draw between two batches

  // From a file (file://) a page may run scripts but not read files: there the same
  // bytes come as text in a script.
  async function readFiles(folder) {
    if (location.protocol === "file:") {
      await runScript(folder + "embedded.js");
      return FILES.map((name) => decode(window.playgroundFiles[name]).buffer);
    }
    return Promise.all(
      FILES.map(async (name) => {
        const response = await fetch(folder + name);
        if (!response.ok) throw new Error(`${name}: ${response.status}`);
        return response.arrayBuffer();
      }),
    );
  }

  function runScript(address) {
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = address;
      script.onload = resolve;
      script.onerror = () => reject(new Error(`${address} is missing`));
      document.head.append(script);
    });
  }

  // The text of the page comes first (assets/book.js tells); megabytes of network and
  // pictures can wait until the reader comes to `place`.
  async function waitForReader(place) {
    await window.textIsShown;
    await new Promise((resolve) => {
      const look = ([{ isIntersecting }]) => isIntersecting && resolve();
      new IntersectionObserver(look, { rootMargin: "-10%" }).observe(place);
    });
  }

  function decode(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  // WebGL where there is one, else the processor; slower, the same numbers.
  async function chooseBackend() {
    try {
      if (await tf.setBackend("webgl")) return tf.getBackend();
    } catch (error) {
      // No WebGL here: not an error, only slower.
    }
    await tf.setBackend("cpu");
    return tf.getBackend();
  }

  // One function for each kind of layer: (inputs, settings, weights) -> output.
  const OPERATIONS = {
    Rescaling: ([x], { scale, offset }) => x.mul(scale).add(offset),
    Conv2D: ([x], { strides, padding }, [kernel, bias]) =>
      tf.conv2d(x, kernel, strides, padding).add(bias),
    ReLU: ([x]) => x.relu(),
    Add: ([x, y]) => x.add(y),
    GlobalAveragePooling2D: ([x]) => x.mean([1, 2]),
  };

  class Backbone {
    constructor(model, bytes) {
      const values = new Float32Array(bytes);
      this.inputShape = model.inputShape;
      this.numFeatures = model.numFeatures;
      this.layers = model.layers.map((layer) => ({
        ...layer,
        weights: layer.weights.map(({ shape, offset }) => {
          const size = shape.reduce((product, side) => product * side, 1);
          return tf.tensor(values.subarray(offset, offset + size), shape);
        }),
      }));
    }

    // (n, 32, 32, 3) in 0...255 -> (n, 128)
    call(x) {
      return tf.tidy(() => {
        const outputs = {};
        for (const { name, type, config, inputs, weights } of this.layers) {
          const values = inputs.map((input) => outputs[input]);
          outputs[name] = type === "InputLayer" ? x : OPERATIONS[type](values, config, weights);
        }
        return outputs[this.layers.at(-1).name];
      });
    }

    // Pictures (uint8 arrays of 32 x 32 x 3) -> their features (Float32Arrays of 128).
    async extract(pictures) {
      const features = [];
      for (let start = 0; start < pictures.length; start += BATCH) {
        const x = toTensor(pictures.slice(start, start + BATCH));
        const y = this.call(x);
        const values = await y.data();
        tf.dispose([x, y]);
        for (let i = 0; i < values.length; i += this.numFeatures) {
          features.push(values.slice(i, i + this.numFeatures));
        }
      }
      return features;
    }
  }

  function toTensor(pictures) {
    const values = new Float32Array(pictures.length * 3072);
    pictures.forEach((picture, i) => values.set(picture, i * 3072));
    return tf.tensor4d(values, [pictures.length, 32, 32, 3]);
  }

  // [{name, examples: [{pixels, features}], tests: [...]}] of the bundled pictures.
  function cutBundle({ classes }, pixels, features, numFeatures) {
    const take = ({ start, count }) =>
      Array.from({ length: count }, (_, i) => ({
        pixels: pixels.subarray((start + i) * 3072, (start + i + 1) * 3072),
        features: features.subarray((start + i) * numFeatures, (start + i + 1) * numFeatures),
      }));
    return classes.map(({ name, examples, tests }) => ({
      name,
      examples: take(examples),
      tests: take(tests),
    }));
  }

  // The samples of model.json: pictures, and the features that Keras gave them.
  function readSamples({ samples }) {
    const bytes = decode(samples.pixels);
    return samples.features.map((features, i) => ({
      pixels: bytes.subarray(i * 3072, (i + 1) * 3072),
      features,
    }));
  }

  // `place` is the element of the page that says how far it is, and names the folder.
  async function load(place) {
    await waitForReader(place);
    const { folder } = place.dataset;
    const library = runScript(folder + "../vendor/tfjs/tf.min.js");
    const [model, weights, pictures, pixels, features] = await readFiles(folder);
    await library;
    const parse = (bytes) => JSON.parse(new TextDecoder().decode(bytes));
    const backend = await chooseBackend();
    const description = parse(model);
    const backbone = new Backbone(description, weights);
    const bundle = cutBundle(
      parse(pictures),
      new Uint8Array(pixels),
      new Float32Array(features),
      backbone.numFeatures,
    );
    return { backbone, backend, bundle, samples: readSamples(description) };
  }

  Object.assign(playground, { load, toTensor });
})(window.playground);
