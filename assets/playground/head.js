// The head: softmax regression on vectors, written out in plain JavaScript. The loss is
// convex and training begins at zero, so that the same examples give the same head, in
// every browser and whatever the graphics card.
"use strict";

(function (playground) {
  const STEPS = 300;
  const LEARNING_RATE = 1.5;
  const MOMENTUM = 0.9;
  const WEIGHT_DECAY = 1e-3;

  // Centre the vectors and give them a mean squared length of 1: then the curvature of
  // the loss is below 1 and one learning rate suits features and raw pixels.
  function standardize(rows) {
    const size = rows[0].length;
    const mean = new Float64Array(size);
    for (const row of rows) for (let j = 0; j < size; j++) mean[j] += row[j] / rows.length;
    let squares = 0;
    for (const row of rows) for (let j = 0; j < size; j++) squares += (row[j] - mean[j]) ** 2;
    const scale = Math.sqrt(squares / rows.length) || 1;
    const scaled = rows.map((row) => Float64Array.from(row, (value, j) => (value - mean[j]) / scale));
    return { scaled, mean, scale };
  }

  function softmax(logits) {
    const largest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  function dot(a, b) {
    let sum = 0;
    for (let j = 0; j < a.length; j++) sum += a[j] * b[j];
    return sum;
  }

  // How similar each example is to each other: their inner products.
  function computeGram(rows) {
    const gram = rows.map(() => new Float64Array(rows.length));
    for (let i = 0; i < rows.length; i++) {
      for (let j = 0; j <= i; j++) gram[i][j] = gram[j][i] = dot(rows[i], rows[j]);
    }
    return gram;
  }

  // Begun at zero, the weights of a class stay a mixture of the examples. So it is enough
  // to learn how much of each example is in it, `shares`: the same steps as on the
  // weights, and few numbers even where a vector is 3,072 pixels.
  function descend(gram, labels, numClasses) {
    const zeros = () => Array.from({ length: numClasses }, () => new Float64Array(gram.length));
    const [shares, speed, errors] = [zeros(), zeros(), zeros()];
    const bias = new Array(numClasses).fill(0);
    const biasSpeed = bias.slice();
    const push = (velocity, gradient) =>
      MOMENTUM * velocity - LEARNING_RATE * (1 - MOMENTUM) * gradient;
    for (let step = 0; step < STEPS; step++) {
      gram.forEach((row, i) => {
        const probabilities = softmax(shares.map((share, k) => dot(share, row) + bias[k]));
        probabilities.forEach((probability, k) => {
          errors[k][i] = (probability - (labels[i] === k ? 1 : 0)) / gram.length;
        });
      });
      shares.forEach((share, k) => {
        for (let i = 0; i < share.length; i++) {
          speed[k][i] = push(speed[k][i], errors[k][i] + WEIGHT_DECAY * share[i]);
          share[i] += speed[k][i];
        }
        biasSpeed[k] = push(biasSpeed[k], errors[k].reduce((a, b) => a + b, 0));
        bias[k] += biasSpeed[k];
      });
    }
    return { shares, bias };
  }

  // Vectors and their classes (0, 1, ...) -> {kernel: one vector a class, bias}, for
  // vectors as they came: the standardization is folded into both.
  function trainHead(rows, labels, numClasses) {
    const { scaled, mean, scale } = standardize(rows);
    const { shares, bias } = descend(computeGram(scaled), labels, numClasses);
    const kernel = shares.map((share) => {
      const weights = new Float64Array(mean.length);
      share.forEach((part, i) => {
        for (let j = 0; j < weights.length; j++) weights[j] += (part * scaled[i][j]) / scale;
      });
      return weights;
    });
    return { kernel, bias: bias.map((value, k) => value - dot(kernel[k], mean)) };
  }

  function predictHead({ kernel, bias }, row) {
    return softmax(kernel.map((weights, k) => dot(weights, row) + bias[k]));
  }

  // What `transfer_tutorial.playground.load_head` reads: the kernel as Keras has it,
  // one row a feature.
  function toFile({ kernel, bias }, classNames) {
    const rows = Array.from(kernel[0], (_, j) => kernel.map((weights) => weights[j]));
    const content = { format: "transfer-tutorial-head", version: 1, backbone: "source_cnn" };
    return JSON.stringify({ ...content, class_names: classNames, kernel: rows, bias });
  }

  Object.assign(playground, { trainHead, predictHead, toFile });
})(window.playground);
