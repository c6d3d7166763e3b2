#!/usr/bin/env python3
"""Make `tests/golden/`: class activation maps by an implementation that is not ours, for `tests/golden.rs`.

Why: a test that computes a formula a second time repeats its author's reading of the paper. So the maps stored here come
from the Python package grad-cam 1.5.7 (https://github.com/jacobgil/pytorch-grad-cam), run as its users run it, on small
heads over random activations and on the shipped model. `tests/golden/README.md` says what that package computes.

Usage: make_golden.py [--out DIR]   (needs the packages in golden-requirements.txt; about ten minutes on one core)

The maps are kept as they leave `get_cam_image`: before the package cuts negative values, divides by 1e-7 + maximum and
resizes to the picture. EigenCAM's is `get_2d_projection`; it knows no class, and its sign is arbitrary.
Everything is computed in double precision: AblationCAM takes logits from each other that hardly differ, and with a network
in single precision its maps are off by 4e-5. Every random number has a fixed seed, and everything runs on one core: a
second run writes the same bytes. On another processor the last digits of the sample's maps may differ.
"""
import argparse
import json
import os
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # grad-cam draws a bar for each map otherwise

import numpy as np
import torch
import torchvision
from PIL import Image
from pytorch_grad_cam import AblationCAM, EigenCAM, GradCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM, XGradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/resnet18-mask.safetensors"
PICTURE = ROOT / "samples/hopper_ffp2.jpg"

GRADIENT_METHODS = {"gradcam": GradCAM, "gradcam++": GradCAMPlusPlus, "xgradcam": XGradCAM, "layercam": LayerCAM}
PASS_METHODS = {"scorecam": ScoreCAM, "ablationcam": AblationCAM}  # forward passes for each filter


class Head(torch.nn.Module):
    """A network of which only the end is left: its input are the activations, passed on by the target layer."""

    def __init__(self, pool, weights, bias):
        super().__init__()
        self.features = torch.nn.Identity()
        self.pool = pool
        self.fc = torch.nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64)
        self.fc.weight.data = torch.from_numpy(weights).double()
        self.fc.bias.data = torch.from_numpy(bias).double()

    def forward(self, activations):
        return self.fc(torch.flatten(self.pool(self.features(activations)), 1))


def raw_map(method, model, layer, tensor, target):
    """The map of one class at the resolution of the activations, caught on its way through the package."""
    caught = []
    cam = method(model=model, target_layers=[layer])
    inner = cam.get_cam_image

    def keep(*arguments):
        caught.append(inner(*arguments))
        return caught[-1]

    cam.get_cam_image = keep
    cam(input_tensor=tensor.clone().requires_grad_(), targets=[ClassifierOutputTarget(target)])
    cam.activations_and_grads.release()
    return caught[0][0]


def all_maps(methods, model, layer, tensor, classes):
    """Maps by method and class, and EigenCAM's projection."""
    maps = {}
    for name, method in methods.items():
        maps[name] = [raw_map(method, model, layer, tensor, target) for target in range(classes)]
        print(f"{name}: " + ", ".join(f"{m.min():.3g} to {m.max():.3g}" for m in maps[name]))
    return {"maps": maps, "projection": raw_map(EigenCAM, model, layer, tensor, 0)}


def random_activations(rng, grid, filters):
    """Rectified and correlated, as a network's are: few patterns mixed, plus noise. (filters, rows, columns)"""
    positions = grid[0] * grid[1]
    patterns = rng.uniform(-1, 1, (positions, 5)) @ rng.uniform(-1, 1, (5, filters))
    mixed = np.maximum(patterns + rng.uniform(-0.2, 1, (positions, filters)), 0).astype(np.float32)
    return mixed.T.reshape(filters, *grid)


def by_position(values):
    """(filters, rows, columns) as (positions, filters), positions row by row."""
    return values.reshape(values.shape[0], -1).T


def pooled_case(seed, grid, filters, classes=3):
    """Global average pooling and a fully connected layer, as in ResNet: one gradient for all positions of a filter."""
    rng = np.random.default_rng(seed)
    activations = random_activations(rng, grid, filters)
    weights = rng.uniform(-1, 1, (classes, filters)).astype(np.float32)
    bias = rng.uniform(-1, 1, classes).astype(np.float32)
    model = Head(torch.nn.AdaptiveAvgPool2d(1), weights, bias)
    tensor = torch.from_numpy(activations[None]).double()
    return {
        "name": f"pooled {grid[0]}x{grid[1]}x{filters}", "grid": grid, "activations": by_position(activations),
        "class_weights": weights, "bias": bias, "logits": model(tensor)[0].detach().numpy(),
        **all_maps(GRADIENT_METHODS | PASS_METHODS, model, model.features, tensor, classes),
    }


def flattened_case(seed, grid, filters, classes=3):
    """A fully connected layer that sees each position by itself: gradients that differ from position to position."""
    rng = np.random.default_rng(seed)
    activations = random_activations(rng, grid, filters)
    weights = rng.uniform(-1, 1, (classes, activations.size)).astype(np.float32)
    model = Head(torch.nn.Identity(), weights, np.zeros(classes, np.float32))
    tensor = torch.from_numpy(activations[None]).double()
    return {
        "name": f"flattened {grid[0]}x{grid[1]}x{filters}", "grid": grid, "activations": by_position(activations),
        "gradients": [by_position(weight.reshape(filters, *grid)) for weight in weights],
        **all_maps(GRADIENT_METHODS, model, model.features, tensor, classes),
    }


def sample(picture_path):
    """The shipped model on a picture of its input's size, which is written to `picture_path`."""
    with safe_open(MODEL, "pt") as file:
        description = json.loads(file.metadata()["maskwatch"])
        parameters = {name: file.get_tensor(name).double() for name in file.keys()}
    classes, side = description["classes"], description["input_size"]
    model = torchvision.models.resnet18(num_classes=len(classes)).double()
    missing, unexpected = model.load_state_dict(parameters, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise SystemExit(f"{MODEL} is not a ResNet18 in torchvision's naming: {missing} {unexpected}")
    model.eval()
    picture = Image.open(PICTURE).convert("RGB").resize((side, side), Image.BILINEAR)
    picture.save(picture_path, optimize=True)
    mean, std = (torch.tensor(description["normalisation"][key], dtype=torch.float64).view(3, 1, 1)
                 for key in ("mean", "std"))
    tensor = ((torch.from_numpy(np.array(picture)).permute(2, 0, 1).double() / 255 - mean) / std)[None]
    with torch.no_grad():
        logits = model(tensor)[0].numpy()
    print(dict(zip(classes, logits.tolist())))
    return {
        "picture": picture_path.name, "logits": logits,
        **all_maps(GRADIENT_METHODS | PASS_METHODS, model, model.layer4[-1], tensor, len(classes)),
    }


def compact(value):
    """JSON with nine significant digits, which hold every number of single precision."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{compact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple, np.ndarray)):
        return "[" + ",".join(compact(item) for item in value) + "]"
    if isinstance(value, (float, np.floating)):
        return f"{value:.9g}"
    return json.dumps(value)


def main():
    """Write `random.json`, `sample.json` and `sample.png` into the folder asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests/golden",
                        help="folder to write to (default: tests/golden)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cases = [pooled_case(1, (7, 7), 32), pooled_case(2, (5, 9), 24), flattened_case(3, (5, 6), 16)]
    (out / "random.json").write_text(compact({"cases": cases}) + "\n")
    (out / "sample.json").write_text(compact(sample(out / "sample.png")) + "\n")


if __name__ == "__main__":
    main()
