"""Train RAFT-small on synthetic motion made of faces and textures.

    python -m experiments.zoo.train_flow --faces FOLDER --labels faces.csv --out runs/flow --minutes 10

Pairs are made on the device where it trains (synthetic_motion.py), so nothing but the faces is read. Runs in
pieces (running.py): the same command again goes on. ``flow.safetensors`` in the folder holds the averaged
weights under torchvision's names; ``evaluate_flow.py`` compares them with DIS and zero flow.

Source: Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.models.optical_flow import RAFT, raft_small

from experiments.zoo import faces, running
from experiments.zoo.faces import to_range
from experiments.zoo.flow_learning import all_updates, cropped, matching_loss, sequence_loss
from experiments.zoo.flow_truth import Estimator, end_point_errors, synthetic_pairs, zero_flow
from experiments.zoo.synthetic_motion import Motion, MotionPair, make_pairs, warp_known
from tempcons.models.flow import DISFlow
from tempcons.models.raft_view import CentredView
from tempcons.weights.assets import read_asset, save_asset

ASSET = "flow.safetensors"
LICENCE = "Apache-2.0 (weights trained by this project; see the model card for the data)"


@dataclass(frozen=True)
class FlowSettings:
    """Settings of the training.

    Attributes:
        batch: squares in a step.
        updates: recurrent updates in training; more may be used later.
        upscale: pictures are enlarged so often before the network, as its grid is an eighth of its input.
        crop: side of the squares in px; towards the end, as many pixels of whole pictures.
        matching_share: first share of the training, in which the features alone learn to match.
        whole_share: last share of it, with whole pictures.
        single_share: share of batches that are one moving picture without layers.
        discount: weight of an update's error relative to the next one's (the paper's gamma).
        hidden_weight: weight of points that are hidden or outside in the other frame.
        half_life: of the averaged weights, in steps.
        test_pairs: synthetic pairs of held-out persons in a report.
    """

    batch: int = 16
    rate: float = 8e-4
    updates: int = 8
    upscale: int = 2
    crop: int = 64
    matching_share: float = 0.05
    whole_share: float = 0.2
    single_share: float = 0.35
    discount: float = 0.8
    hidden_weight: float = 0.3
    weight_decay: float = 1e-5
    half_life: float = 300.0
    test_pairs: int = 128


COUNTS = ("batch", "updates", "upscale", "crop", "test_pairs")
NUMBERS = ("rate", "half_life", "matching_share", "whole_share", "single_share")


class FlowTraining(running.ZooModule):
    """RAFT-small, its averaged copy, and the pictures that pairs are made of."""

    def __init__(self, pictures: Tensor, testing: Tensor, settings: FlowSettings, motion: Motion) -> None:
        super().__init__()
        self.settings, self.motion = settings, motion
        self.view = CentredView(settings.upscale)
        self.network = raft_small(weights=None)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.register_buffer("pictures", pictures, persistent=False)
        self.register_buffer("testing", testing, persistent=False)
        self.baselines: dict[str, float] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        wanted = self.settings
        return torch.optim.AdamW(self.network.parameters(), lr=wanted.rate, weight_decay=wanted.weight_decay)

    @torch.no_grad()
    def draw(self) -> MotionPair:
        """A batch of pairs: squares cut from pairs, towards the end whole ones."""
        assert isinstance(self.pictures, Tensor)
        random, wanted, size = self.random(), self.settings, self.pictures.shape[-1]
        whole = self.share > 1 - wanted.whole_share or wanted.crop >= size
        count = max(1, wanted.batch * wanted.crop**2 // size**2) if whole else wanted.batch
        chosen = torch.randint(len(self.pictures), (2 * count,), generator=random, device=self.device)
        pictures = to_range(self.pictures[chosen])
        mirrored = torch.rand(2 * count, 1, 1, 1, generator=random, device=self.device) < 0.5
        pictures = torch.where(mirrored, pictures.flip(3), pictures)
        single = torch.rand((), generator=random, device=self.device) < wanted.single_share
        if single:
            pair = warp_known(pictures[:count], self.motion, random)
        else:
            pair = make_pairs(pictures, self.motion, random)
        return pair if whole else cropped(pair, wanted.crop, random)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        wanted = self.settings
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = wanted.rate * running.rate_at(self.share)
        with torch.autocast(self.device.type, enabled=False):
            pair = self.draw()
        matching = self.share < wanted.matching_share
        loss = matching_loss(self.network, pair, self.view) if matching else self.motion_loss(pair)
        self.log_dict({"matching" if matching else "loss": loss, "share": self.share})
        return loss

    def motion_loss(self, pair: MotionPair) -> Tensor:
        """Error of all updates; the last one's end-point error is logged."""
        wanted = self.settings
        flows = [
            flow.float() for flow in all_updates(self.network, pair.a, pair.b, wanted.updates, self.view)
        ]
        error = torch.linalg.vector_norm(flows[-1].detach() - pair.flow, dim=1, keepdim=True)
        self.log("epe", (error * pair.visible).sum() / pair.visible.sum().clamp(min=1))
        return sequence_loss(flows, pair, wanted.discount, wanted.hidden_weight)

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if not torch.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(self, *args: Any) -> None:
        decay = running.average_decay(int(self.taken) + 1, self.settings.half_life)
        running.update_average(self.average, self.network, decay)

    def estimate(self, a: Tensor, b: Tensor) -> Tensor:
        """Flow by the averaged network."""
        return all_updates(self.average, a, b, self.settings.updates, self.view)[-1]

    def report(self) -> dict[str, float]:
        assert isinstance(self.testing, Tensor)
        testing, count = self.testing, self.settings.test_pairs

        def errors(estimate: Estimator) -> dict[str, float]:
            return end_point_errors(estimate, synthetic_pairs(testing, count, self.motion))

        if self.baselines is None:
            self.baselines = {
                "zero/epe": errors(zero_flow)["epe"],
                "dis/epe": errors(DISFlow())["epe"],
            }
        with torch.autocast(self.device.type, enabled=False):
            found = {f"raft/{name}": value for name, value in errors(self.estimate).items()}
        return {name: round(value, 4) for name, value in (found | self.baselines).items()}

    def keep(self, folder: Path) -> None:
        export_flow(self.average, folder / ASSET, self.settings.updates, self.settings.upscale)


def export_flow(network: RAFT, path: Path, updates: int, upscale: int) -> None:
    """Write RAFT-small as an asset: torchvision's names, half precision, how it sees pictures."""
    config = {"kind": "raft_small", "updates": updates, "upscale": upscale, "refined": True}
    save_asset(path, network.state_dict(), "flow", {"flow": config}, LICENCE)


def go_on_from(module: FlowTraining, asset: Path) -> None:
    """Put the weights of an asset into both networks of a training."""
    tensors = read_asset(asset, "flow").tensors
    for network in (module.network, module.average):
        network.load_state_dict(tensors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=10)
    defaults = FlowSettings()
    for names, kind in ((COUNTS, int), (NUMBERS, float)):
        for name in names:
            parser.add_argument("--" + name.replace("_", "-"), type=kind, default=getattr(defaults, name))
    parser.add_argument("--start", type=Path, help="asset to go on from, matching already; without: nothing")
    parser.add_argument("--largest-motion", type=float, default=Motion.largest, help="px")
    args = parser.parse_args()
    found = faces.from_arguments(args)
    settings = FlowSettings(**{name: getattr(args, name) for name in COUNTS + NUMBERS})
    module = FlowTraining(found.training, found.testing, settings, Motion(largest=args.largest_motion))
    if args.start is not None:
        go_on_from(module, args.start)
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
