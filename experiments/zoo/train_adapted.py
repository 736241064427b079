"""Adapt the generator to a target look by distilling an image operator.

    python experiments/zoo/train_adapted.py --look sketch --faces FOLDER \\
        --out tempcons/assets/nada_sketch.safetensors

StyleGAN-NADA steers a generator with CLIP; without CLIP's weights the look comes from an image
operator: the adapted generator learns to draw, from the same codes, what the operator makes of the
base generator's picture. Mapping network and the coarsest layers stay; only differences of weights
are stored, so that they can be added to a generator tuned on a clip.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from kornia.color import rgb_to_grayscale
from kornia.filters import bilateral_blur, gaussian_blur2d
from torch import Tensor
from train_autoencoder import read_faces

from tempcons.family import generator_from_asset
from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.perceptual import Lite0Distance
from tempcons.weights.assets import load_asset, save_asset

FIRST_TRAINED_LAYER = 3  # convolutions from 16 px up


def pencil_sketch(picture: Tensor) -> Tensor:
    """Gray pencil on paper: shading by a dodge blend, contours by a difference of Gaussians."""
    gray = rgb_to_grayscale((picture + 1) / 2)
    soft = gaussian_blur2d(gray, (31, 31), (6.0, 6.0), border_type="replicate")
    shading = (gray / (soft + 0.05)).clamp(0, 1).pow(1.5)
    narrow = gaussian_blur2d(gray, (9, 9), (0.8, 0.8), border_type="replicate")
    wide = gaussian_blur2d(gray, (13, 13), (1.6, 1.6), border_type="replicate")
    contour = 1 + torch.tanh(((narrow - 0.985 * wide) - 0.002).clamp(max=0) * 30)
    tone = 0.30 + 0.70 * torch.sigmoid((gray - 0.30) * 7)
    drawing = (0.55 * shading + 0.45 * tone) * contour
    paper = torch.tensor([1.0, 0.985, 0.955], device=picture.device).view(1, 3, 1, 1)
    return (drawing * paper).clamp(0, 1) * 2 - 1


def cartoon(picture: Tensor) -> Tensor:
    """Smooth, warm and saturated: edges kept, texture gone, a lifted and stretched tone curve."""
    x = (picture + 1) / 2
    for _ in range(2):
        x = bilateral_blur(x, (7, 7), 0.12, (2.5, 2.5), border_type="replicate")
    gray = rgb_to_grayscale(x)
    skin = torch.cat([0.16 + 0.92 * gray, 0.02 + 0.86 * gray.pow(1.15), 0.03 + 0.78 * gray.pow(1.35)], 1)
    saturated = gray + 1.6 * (x - gray)
    x = 0.5 * saturated + 0.5 * skin
    x = x + 0.5 * (x - gaussian_blur2d(x, (21, 21), (4.0, 4.0), border_type="replicate"))
    return ((x - 0.5) * 1.25 + 0.56).clamp(0, 1) * 2 - 1


LOOKS: dict[str, Callable[[Tensor], Tensor]] = {"sketch": pencil_sketch, "pixar": cartoon}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--look", choices=sorted(LOOKS), required=True)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    base_asset, encoder_asset = load_asset("generator", "generator"), load_asset("encoder", "encoder")
    base = generator_from_asset(base_asset)
    encoder = FaceEncoder(**encoder_asset.config["encoder"])
    encoder.load_state_dict(encoder_asset.tensors)
    encoder.requires_grad_(False).eval()
    pictures, held, _ = read_faces(args.faces, args.labels)
    train, test = pictures[~held], pictures[held][:64]
    adapted = copy.deepcopy(base)
    trained = adapted.layer_parameters(FIRST_TRAINED_LAYER)
    for parameter in trained:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(trained, lr=args.lr, betas=(0.9, 0.99))
    look, distance = LOOKS[args.look], Lite0Distance()
    began = time.time()
    for step in range(args.steps):
        rate = min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = args.lr * max(rate, 0.01)
        x = torch.from_numpy(train[torch.randint(len(train), (args.batch,)).numpy()]).float() / 127.5 - 1
        with torch.no_grad():
            # Between a face and another, so that codes moved by edits are drawn well too.
            codes = encoder(x)
            codes = codes + 0.3 * torch.rand(len(x), 1, 1) * (codes.roll(1, 0) - codes)
            wanted = look(base.synthesis(codes).clamp(-1, 1))
        drawn = adapted.synthesis(codes)
        loss = (drawn - wanted).abs().mean() + 2 * (drawn - wanted).square().mean()
        loss = loss + 0.1 * distance(drawn.clamp(-1, 1), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if step % 50 == 0 or step + 1 == args.steps:
            print(
                json.dumps(
                    {"step": step, "seconds": round(time.time() - began), "loss": round(loss.item(), 4)}
                ),
                flush=True,
            )
    with torch.no_grad():
        codes = encoder(torch.from_numpy(test).float() / 127.5 - 1)
        wanted = look(base.synthesis(codes).clamp(-1, 1))
        drawn = adapted.synthesis(codes).clamp(-1, 1)
        psnr = -10 * torch.log10(F.mse_loss(drawn, wanted) / 4)
    print(json.dumps({"held_out_psnr_to_operator_db": round(psnr.item(), 2)}))
    before, after = base.state_dict(), adapted.state_dict()
    changed = {k: after[k] - before[k] for k in after if not torch.equal(after[k], before[k])}
    licence = base_asset.record["licence"]
    save_asset(
        args.out,
        changed,
        "generator_difference",
        {"look": args.look, "base": base_asset.record["sha256"]},
        licence,
    )


if __name__ == "__main__":
    main()
