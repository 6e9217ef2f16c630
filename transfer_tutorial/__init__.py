"""Transfer learning, tested: small functions that can be copied one by one.

Data flows one way: arrays -> `tf.data` -> backbone -> classifier -> probabilities
-> numbers -> figures. Import the module that you need; this file imports nothing
heavy.

- `datasets`: labelled arrays; `load_*` is bundled, `fetch_*` may download
- `splits`: which rows: train, validation and test; few-shot indices
- `pipelines`: pictures, texts and series to arrays, arrays to `tf.data`; augmentation
- `backbones`: MLP, CNN, residual CNN, GRU, Transformer from scratch; `attach_head`
- `pretrained`: EfficientNet-Lite0, MiniLM-L6 and our own source CNN, weights shipped
- `fine_tuning`: freeze, unfreeze, BatchNorm, two phases; the audit: did it happen?
- `learning_rates`: discriminative (layer-wise) learning rates
- `l2_sp`: a penalty on the distance to the pretrained weights
- `lora`: LoRA and bottleneck adapters
- `linear_probe`: extract features once, cache them, fit a linear classifier; LP-FT
- `adaptation`: labels in the source only: CORAL, MMD, DANN, AdaBN, pseudo-labels
- `pretraining`: no labels at all: SimCLR, and an autoencoder
- `cross_modal`: pictures and sentences in one space; zero-shot classification
- `compression`: multiply-adds; folded BatchNorm, 8 bits, distillation, pruning
- `transferability`: LEEP, LogME, H-score, linear CKA, proxy A-distance
- `evaluation`: scores, calibration, intervals, and the verdict: did transfer help?
- `playground`: the head that a reader trained in the book's page, as a Keras model
- `distributed`: training, features and seeds on several GPUs or machines
- `plots`: arrays to Axes
- `exercises`: a check for each exercise of the book
"""

import os

# TensorFlow's C++ log lines would otherwise appear in every notebook; a level that
# the reader has set already stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

__version__ = "0.11.0"
