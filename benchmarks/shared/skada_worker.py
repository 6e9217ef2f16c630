"""SKADA's half of `adaptation.py`, run by the interpreter of another environment.

For each line of JSON on its input it trains one method on the arrays of the named
file, saves the probabilities of the target's test rows beside them, and answers with
the seconds. The initial weights and the rows of every batch come with the arrays.
"""

import importlib.metadata
import json
import platform
import sys
import time
import warnings

import numpy as np
import threadpoolctl
import torch
from skada import CORAL
from skada.deep import DAN, DANN, DeepCoral, SourceOnly
from skada.deep.base import BaseDALoss, DomainBalancedSampler
from skada.deep.modules import GradientReversalLayer
from sklearn.linear_model import LogisticRegression

KERNELS = 33  # DAN adds up so many; our loss is a mean over its kernels
KERAS_EPSILON = 1e-7
LIBRARIES = ("skada", "skorch", "torch", "scikit-learn", "numpy")


def load_linear(kernel, bias):
    """A layer with the weights of a Keras `Dense`, whose kernel lies the other way."""
    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data = torch.tensor(kernel.T.copy())
    layer.bias.data = torch.tensor(bias)
    return layer


def load_hidden(weights):
    """Dense layers with ReLU, of alternating kernels and biases."""
    layers = []
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        layers += [load_linear(kernel, bias), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


class KerasAdam(torch.optim.Adam):
    """Adam with the epsilon where Keras has it: not divided by the bias correction.

    `v` is small in the first steps and Keras' epsilon thus 30 times larger than that of
    PyTorch; weights of rarely inked pixels, with gradients near it, learn more slowly.
    """

    num_steps = 0

    def step(self, closure=None):
        self.num_steps += 1
        for group in self.param_groups:
            correction = 1 - group["betas"][1] ** self.num_steps
            group["eps"] = KERAS_EPSILON / correction**0.5
        return super().step(closure)


class Network(torch.nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.features = load_hidden(weights[:-2])
        self.head = load_linear(*weights[-2:])

    def forward(self, x, sample_weight=None):
        return self.head(self.features(x / 255))


class Discriminator(torch.nn.Module):
    """Our discriminator, behind SKADA's own reversal of the gradient."""

    def __init__(self, weights):
        super().__init__()
        self.hidden = load_hidden(weights[:-2])
        self.logit = load_linear(*weights[-2:])

    def forward(self, x, sample_weight=None):
        x = self.hidden(GradientReversalLayer.apply(x, 1.0))
        return torch.sigmoid(self.logit(x)).squeeze(1)


class OurMmd(BaseDALoss):
    """The formula of our `mmd_loss`, computed anew and in another way."""

    def forward(self, features_s, features_t, **ignored):
        n, rows = len(features_s), torch.cat([features_s, features_t])
        distances = (rows[:, None] - rows[None]).square().sum(-1)
        mean = (distances.sum() / (len(rows) * (len(rows) - 1))).detach()
        bandwidths = (0.25, 0.5, 1.0, 2.0, 4.0)
        kernel = sum(torch.exp(-distances / (b * mean)) for b in bandwidths) / 5
        cross = kernel[:n, n:].mean()
        return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * cross


class RecordedSampler(DomainBalancedSampler):
    """SKADA's sampler, but each epoch yields the rows that were recorded for it."""

    def __init__(self, dataset, rows):
        super().__init__(dataset, rows.shape[2])
        self.epochs, self.size = iter(rows), rows[0].size

    def __iter__(self):
        return iter(next(self.epochs).ravel().tolist())

    def __len__(self):
        return self.size


class RecordedLoader(torch.utils.data.DataLoader):
    def __init__(self, dataset, batch_size, rows, domain_used=None):
        sampler = RecordedSampler(dataset, rows)
        super().__init__(dataset, rows.shape[2], sampler=sampler)


def build_net(case, data, seed, settings):
    """An untrained SKADA net, and the rows of its batches."""
    torch.manual_seed(seed)
    layers = len(settings["hidden_units"]) + 1
    weights = [data[f"weight_{i}"] for i in range(2 * layers)]
    discriminator = [data[f"discriminator_{i}"] for i in range(4)]
    method, weight = case["method"], case["weight"]
    options = dict(
        layer_name="features",
        optimizer=KerasAdam,
        lr=settings["learning_rate"],
        max_epochs=settings["epochs"],
        train_split=None,
        verbose=0,
    )
    source, target = data["source_rows"], data["target_rows"] + len(data["x_source"])
    both = np.concatenate([source, target], axis=2)
    network = Network(weights)
    if method == "source only":
        return SourceOnly(network, **options), source
    if method == "Deep CORAL":
        return DeepCoral(network, reg=weight, **options), both
    if method == "MMD":
        return DAN(network, reg=weight / KERNELS, **options), both
    if method == "MMD, our kernel in both":
        net = DAN(network, reg=weight, **options)
        return net.set_params(criterion__adapt_criterion=OurMmd()), both
    # SKADA adds the two halves of the cross-entropy, we take their mean.
    options |= dict(reg=weight / 2)
    if method == "DANN":
        classifier = Discriminator(discriminator)
        return DANN(network, domain_classifier=classifier, **options), both
    if method == "DANN, SKADA's discriminator":
        width = discriminator[0].shape[0]
        return DANN(network, num_features=width, **options), both
    raise ValueError(f"Unknown method: {method!r}.")


def timed(function):
    start, cpu_start = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - start, time.process_time() - cpu_start


def mask_target(data, prefix):
    """Rows, labels and domains of both domains, without a label of the target."""
    source, target = data[f"{prefix}_source"], data[f"{prefix}_target"]
    x = np.concatenate([source, target])
    y = np.concatenate([data["y_source"], np.full(len(target), -1)])
    return x, y, np.concatenate([np.ones(len(source), int), np.full(len(target), -2)])


def train_deep(case, data, seed, settings):
    net, rows = build_net(case, data, seed, settings)
    net.set_params(iterator_train=RecordedLoader, iterator_train__rows=rows)
    x, y, domain = mask_target(data, "x")
    seconds = timed(lambda: net.fit(x, y, sample_domain=domain))
    domain = np.full(len(data["x_test"]), -2)
    return net.predict_proba(data["x_test"], sample_domain=domain), seconds


def train_linear(case, data, settings):
    classifier = LogisticRegression(max_iter=settings["max_iter"])
    if case["method"] == "logistic regression":
        x, y = data["z_source"], data["y_source"]
        seconds = timed(lambda: classifier.fit(x, y))
        return classifier.predict_proba(data["z_test"]), seconds
    automatic = case["method"] == "CORAL, automatic shrinkage"
    # (1 - s) C + s mean(diagonal) I is (C + I) / 2 for s = 1/2 and variances of 1; the
    # factor is that of both domains and cancels.
    model = CORAL(classifier, reg="auto" if automatic else 0.5)
    x, y, domain = mask_target(data, "z")
    seconds = timed(lambda: model.fit(x, y, sample_domain=domain))
    domain = np.full(len(data["z_test"]), -2)
    return model.predict_proba(data["z_test"], sample_domain=domain), seconds


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    print(json.dumps({"python": platform.python_version()} | versions), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        case, settings = question["case"], question["settings"]
        with np.load(question["arrays"]) as file:
            data = dict(file)
        if case["weight"] is None and case["method"] != "source only":
            probabilities, seconds = train_linear(case, data, settings)
        else:
            probabilities, seconds = train_deep(case, data, question["seed"], settings)
        np.save(question["answer"], probabilities)
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
