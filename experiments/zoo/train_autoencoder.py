"""Train the embedded generator and encoder together, as an autoencoder, on aligned faces.

    python experiments/zoo/train_autoencoder.py --faces FOLDER --labels faces.csv --out runs/autoencoder

FOLDER holds square pictures; the optional CSV (columns ``file``, ``identity``, ``colour``) keeps
persons on one side of the split. Training grows 32 -> 64 -> 128 px, each stage for a given number
of seconds with a cosine learning rate, and goes on from ``state.pt`` after a kill. ``--warm-start
STATE`` starts at 128 px from the averaged weights of another run instead of from nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.models.face_encoder import FaceEncoder
from tempcons.models.stylegan2 import Generator, num_layers

CHANNELS = {4: 512, 8: 320, 16: 128, 32: 64, 64: 32, 128: 24}
SIZE, STYLE_DIM = 128, 256
HELD_OUT_SHARE = 0.04


def read_faces(folder: Path, labels: Path | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pictures (N, 3, 128, 128) uint8, held-out flags (N,), colour flags (N,)."""
    rows = {r["file"]: r for r in csv.DictReader(labels.open())} if labels else {}
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".png", ".jpeg"})
    if rows:
        files = [f for f in files if f.name in rows]
    if not files:
        raise SystemExit(f"train: no labelled pictures in {folder}")
    pictures = np.empty((len(files), 3, SIZE, SIZE), np.uint8)
    identities, colour = [], []
    for i, file in enumerate(files):
        bgr = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if bgr is None:
            raise SystemExit(f"train: {file} is no readable picture")
        if bgr.shape[:2] != (SIZE, SIZE):
            bgr = cv2.resize(bgr, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        pictures[i] = bgr[..., ::-1].transpose(2, 0, 1)
        row = rows.get(file.name, {})
        identities.append(int(row.get("identity") or i))
        colour.append(row.get("colour", "colour") == "colour")
    persons = np.unique(identities)
    held = np.random.RandomState(0).permutation(persons)[: int(HELD_OUT_SHARE * len(persons))]
    return pictures, np.isin(identities, held), np.array(colour)


class Batches:
    """Random training pictures on [-1, 1]: mirrored, slightly moved, gray ones often tinted."""

    def __init__(self, pictures: np.ndarray, colour: np.ndarray, seed: int) -> None:
        self.pictures, self.colour = pictures, colour
        weight = np.where(colour, 4.0, 1.0)
        self.probability = weight / weight.sum()
        self.rng = np.random.RandomState(seed)

    def draw(self, batch: int, size: int, strength: float = 1.0) -> Tensor:
        """(batch, 3, size, size); ``strength`` scales the motion and the share of tinted pictures."""
        index = self.rng.choice(len(self.pictures), batch, p=self.probability)
        x = torch.from_numpy(self.pictures[index]).float() / 127.5 - 1
        if self.rng.rand() < 0.5:
            x = x.flip(3)
        x = self._move(x, strength)
        x = self._tint(x, self.colour[index], strength)
        x = x if size == SIZE else F.interpolate(x, size=(size, size), mode="area")
        return x.contiguous(memory_format=torch.channels_last)

    def _move(self, x: Tensor, strength: float) -> Tensor:
        """Turn by up to 4 degrees, scale by 4 %, shift by 2 %: the aligner is not exact either."""
        b = len(x)
        angle = torch.from_numpy(self.rng.normal(0, 0.035 * strength, b)).float()
        scale = torch.from_numpy(np.exp(self.rng.normal(0, 0.02 * strength, b))).float()
        shift = torch.from_numpy(self.rng.normal(0, 0.02 * strength, (b, 2))).float()
        c, s = angle.cos() * scale, angle.sin() * scale
        theta = torch.stack([torch.stack([c, -s, shift[:, 0]], 1), torch.stack([s, c, shift[:, 1]], 1)], 1)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def _tint(self, x: Tensor, colour: np.ndarray, strength: float) -> Tensor:
        """A random warm or cold tone for half of the gray pictures, so that codes carry colour."""
        b = len(x)
        tinted = torch.from_numpy(~colour & (self.rng.rand(b) < 0.5 * strength)).float().view(b, 1, 1, 1)
        tone = torch.from_numpy(self.rng.normal([0.05, 0, -0.05], [0.10, 0.03, 0.10], (b, 3))).float()
        contrast = torch.from_numpy(np.exp(self.rng.normal(0, 0.08 * strength, (b, 1, 1, 1)))).float()
        bright = torch.from_numpy(self.rng.normal(0, 0.05 * strength, (b, 1, 1, 1))).float()
        x = x * contrast + bright
        luminance_weight = 1 - x.square() * 0.7
        return (x + tinted * tone.view(b, 3, 1, 1) * luminance_weight).clamp(-1, 1)


@torch.no_grad()
def held_out_psnr(encoder: FaceEncoder, generator: Generator, pictures: Tensor) -> float:
    """Mean PSNR in dB of reconstructions, at the pictures' own size."""
    size, values = pictures.shape[-1], []
    for x in pictures.split(32):
        y = generator.synthesis(encoder(x), "none", max_size=size).clamp(-1, 1)
        mse = ((x - y) / 2).square().mean(dim=(1, 2, 3))
        values.append(-10 * mse.log10())
    return torch.cat(values).mean().item()


@torch.no_grad()
def update_average(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, nargs=3, default=(300, 900, 3600), metavar="S")
    parser.add_argument("--batch", type=int, nargs=3, default=(16, 12, 12), metavar="B")
    parser.add_argument("--perceptual", type=float, default=0.0, help="weight of lite0 features at 128 px")
    parser.add_argument("--l1", type=float, default=1.0, help="weight of the mean absolute error")
    parser.add_argument("--l2", type=float, default=4.0, help="weight of the mean squared error")
    parser.add_argument("--warm-start", type=Path, metavar="STATE", help="state.pt of another run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    pictures, held, colour = read_faces(args.faces, args.labels)
    print(f"{len(pictures)} pictures, {held.sum()} held out", flush=True)
    batches = Batches(pictures[~held], colour[~held], args.seed)
    test = torch.from_numpy(pictures[held][:256]).float() / 127.5 - 1

    generator = Generator(SIZE, STYLE_DIM, 0, CHANNELS)
    encoder = FaceEncoder(num_layers(SIZE), STYLE_DIM)
    generator.input.input.data = generator.input.input.data.contiguous(memory_format=torch.channels_last)
    models = torch.nn.ModuleDict({"generator": generator, "encoder": encoder})
    mean_generator, mean_encoder = Generator(SIZE, STYLE_DIM, 0, CHANNELS), FaceEncoder(12, STYLE_DIM)
    average = torch.nn.ModuleDict({"generator": mean_generator, "encoder": mean_encoder})
    average.load_state_dict(models.state_dict())
    optimiser = torch.optim.Adam(
        [
            {"params": [p for n, p in generator.named_parameters() if "noise" not in n], "base": 3e-3},
            {"params": encoder.parameters(), "base": 8e-4},
        ],
        lr=1e-3,
        betas=(0.9, 0.99),
    )
    first, spent, step, images = 0, 0.0, 0, 0
    state_file = args.out / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        models.load_state_dict(state["models"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent, step, images = state["at"]
        print(f"going on at stage {first}, {spent:.0f} s, {images} images", flush=True)
    elif args.warm_start:
        for each in (models, average):
            each.load_state_dict(torch.load(args.warm_start, weights_only=True)["average"])
        first = 2
        print(f"starting from {args.warm_start} at {SIZE} px", flush=True)

    perceptual = None
    if args.perceptual:
        from tempcons.models.perceptual import Lite0Distance

        perceptual = Lite0Distance()

    for stage in range(first, 3):
        size, seconds, batch = 32 * 2**stage, args.seconds[stage], args.batch[stage]
        reals = test if size == SIZE else F.interpolate(test, size=(size, size), mode="area")
        last_report = -1e9
        recent: list[float] = []
        while spent < seconds:
            began = time.time()
            share = spent / seconds
            ramp = min(1.0, share * 30 + 0.1)
            # The last stage decays to zero; the ones before only by half.
            floor = 0.01 if stage == 2 else 0.5
            rate = ramp * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share)))
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * rate * (0.7 if stage == 2 else 1.0)
            # Towards the end the pictures are those the encoder will meet: aligned and as they are.
            x = batches.draw(batch, size, strength=1.0 if stage < 2 else max(0.2, 1 - share))
            y = generator.synthesis(encoder(x), "none", max_size=size)
            l1, l2 = (y - x).abs().mean(), (y - x).square().mean()
            loss = args.l1 * l1 + args.l2 * l2
            if perceptual is not None and stage == 2:
                loss = loss + args.perceptual * perceptual(x, y.clamp(-1, 1)).mean()
            optimiser.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(models.parameters(), 1.0)
            # One wild step would spoil the average for minutes.
            if torch.isfinite(norm) and (len(recent) < 100 or loss.item() < 4 * np.median(recent)):
                optimiser.step()
            recent = [*recent[-199:], loss.item()]
            update_average(average, models, min(0.998, (step + 1) / (step + 20)))
            step, images = step + 1, images + batch
            spent += time.time() - began
            if spent - last_report > 60 or spent >= seconds:
                last_report = spent
                psnr = held_out_psnr(mean_encoder, mean_generator, reals)
                row = {
                    "size": size,
                    "seconds": round(spent),
                    "step": step,
                    "images": images,
                    "loss": round(float(np.mean(recent)), 4),
                    "psnr": round(psnr, 2),
                }
                print(json.dumps(row), flush=True)
                with (args.out / "log.jsonl").open("a") as log:
                    log.write(json.dumps(row) + "\n")
                state = {
                    "models": models.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "at": (stage, spent, step, images),
                }
                torch.save(state, args.out / "state.tmp")
                (args.out / "state.tmp").rename(state_file)
        spent = 0.0


if __name__ == "__main__":
    main()
