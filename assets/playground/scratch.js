// The comparison: a small network of the backbone's kind, begun with random weights and
// trained end to end on the reader's examples alone. It has three convolutions where the
// backbone has seven, so that it trains in seconds.
"use strict";

(function (playground) {
  const STEPS = 100;
  const BATCH = 32;
  const LEARNING_RATE = 0.005;
  const FILTERS = [8, 16, 32];

  function buildScratch(numClasses, seed) {
    const model = tf.sequential();
    FILTERS.forEach((filters, i) => {
      model.add(
        tf.layers.conv2d({
          filters,
          kernelSize: 3,
          strides: 2,
          padding: "same",
          activation: "relu",
          kernelInitializer: tf.initializers.heNormal({ seed: seed * 10 + i }),
          inputShape: i === 0 ? [32, 32, 3] : undefined,
        }),
      );
    });
    model.add(tf.layers.globalAveragePooling2d({}));
    const kernelInitializer = tf.initializers.glorotNormal({ seed: seed * 10 + 9 });
    model.add(tf.layers.dense({ units: numClasses, kernelInitializer }));
    return model;
  }

  // Numbers in [0, 1) that are the same in every browser ("mulberry32").
  function makeRandom(seed) {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffle(items, random) {
    const shuffled = items.slice();
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [shuffled[i], shuffled[j]] = [shuffled[j], shuffled[i]];
    }
    return shuffled;
  }

  const scale = (x) => x.div(127.5).sub(1);

  // The loss, as a tensor.
  function takeStep(model, optimizer, pictures, labels, numClasses) {
    return tf.tidy(() => {
      const x = scale(playground.toTensor(pictures));
      const y = tf.oneHot(tf.tensor1d(labels, "int32"), numClasses);
      const loss = () => tf.losses.softmaxCrossEntropy(y, model.apply(x, { training: true }));
      return optimizer.minimize(loss, true);
    });
  }

  // `onProgress` gets the part that is done, in 0...1; if it answers false, training
  // stops there and the answer is null.
  async function trainScratch(pictures, labels, numClasses, { seed = 0, onProgress } = {}) {
    const model = buildScratch(numClasses, seed);
    const optimizer = tf.train.adam(LEARNING_RATE);
    const random = makeRandom(seed);
    let queue = [];
    for (let step = 0; step < STEPS; step++) {
      if (queue.length === 0) queue = shuffle([...pictures.keys()], random);
      const rows = queue.splice(0, BATCH);
      const batch = [rows.map((i) => pictures[i]), rows.map((i) => labels[i])];
      const loss = takeStep(model, optimizer, ...batch, numClasses);
      if (step % 5 === 4) {
        await loss.data(); // what was asked of the graphics card is done now
        await tf.nextFrame();
      }
      loss.dispose();
      if (step % 5 === 4) {
        if (onProgress && onProgress((step + 1) / STEPS) === false) {
          model.dispose();
          optimizer.dispose();
          return null;
        }
      }
    }
    optimizer.dispose();
    return model;
  }

  // Pictures -> for each the probabilities of the classes.
  async function predictScratch(model, pictures) {
    const y = tf.tidy(() => model.predict(scale(playground.toTensor(pictures))).softmax());
    const rows = await y.array();
    y.dispose();
    return rows;
  }

  Object.assign(playground, { makeRandom, shuffle, trainScratch, predictScratch });
})(window.playground);
