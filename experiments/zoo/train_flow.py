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
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.optical_flow import RAFT, raft_small

from experiments.zoo import faces, running
from experiments.zoo.faces import to_range
from experiments.zoo.flow_truth import Estimator, end_point_errors, synthetic_pairs, zero_flow
from experiments.zoo.synthetic_motion import Motion, MotionPair, make_pairs
from tempcons.models.flow import DISFlow, RaftFlow
from tempcons.weights.assets import save_asset

ASSET = "flow.safetensors"
LICENCE = "Apache-2.0 (weights trained by this project; see the model card for the data)"


@dataclass(frozen=True)
class FlowSettings:
    """Settings of the training.

    Attributes:
        updates: recurrent updates in training; more may be used later.
        upscale: pictures are enlarged so often before the network, as its grid is an eighth of its input.
        discount: weight of an update's error relative to the next one's (the paper's gamma).
        hidden_weight: weight of points that are hidden or outside in the other frame.
        half_life: of the averaged weights, in steps.
        test_pairs: synthetic pairs of held-out persons in a report.
    """

    batch: int = 16
    rate: float = 4e-4
    updates: int = 8
    upscale: int = 1
    discount: float = 0.8
    hidden_weight: float = 0.3
    weight_decay: float = 1e-5
    half_life: float = 300.0
    test_pairs: int = 128


def sequence_loss(flows: list[Tensor], pair: MotionPair, discount: float, hidden_weight: float) -> Tensor:
    """Mean absolute error of all updates' flows, later ones weighing more (RAFT's Eq. 7).

    Args:
        flows: (B, 2, S, S) of every update, in px.
    """
    weight = hidden_weight + (1 - hidden_weight) * pair.visible
    errors = [((flow - pair.flow).abs() * weight).mean() for flow in flows]
    last = len(errors) - 1
    return torch.stack([discount ** (last - i) * error for i, error in enumerate(errors)]).sum()


def all_updates(model: RAFT, pair: MotionPair, updates: int, upscale: int) -> list[Tensor]:
    """Flow after every update in px of the pair, which the network sees ``upscale`` times enlarged."""
    if upscale == 1:
        return model(pair.a, pair.b, num_flow_updates=updates)
    size = pair.a.shape[-1]
    large = [
        F.interpolate(x, scale_factor=upscale, mode="bilinear", align_corners=False) for x in (pair.a, pair.b)
    ]
    flows = model(*large, num_flow_updates=updates)
    return [F.interpolate(flow, size=(size, size), mode="area") / upscale for flow in flows]


class FlowTraining(running.ZooModule):
    """RAFT-small, its averaged copy, and the pictures that pairs are made of."""

    def __init__(self, pictures: Tensor, testing: Tensor, settings: FlowSettings, motion: Motion) -> None:
        super().__init__()
        self.settings, self.motion = settings, motion
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
        """A batch of pairs."""
        assert isinstance(self.pictures, Tensor)
        random = self.random()
        count = 2 * self.settings.batch
        chosen = torch.randint(len(self.pictures), (count,), generator=random, device=self.device)
        pictures = to_range(self.pictures[chosen])
        mirrored = torch.rand(count, 1, 1, 1, generator=random, device=self.device) < 0.5
        return make_pairs(torch.where(mirrored, pictures.flip(3), pictures), self.motion, random)

    def training_step(self, batch: int, batch_idx: int) -> Tensor:
        wanted = self.settings
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            group["lr"] = wanted.rate * running.rate_at(self.share)
        with torch.autocast(self.device.type, enabled=False):
            pair = self.draw()
        flows = all_updates(self.network, pair, wanted.updates, wanted.upscale)
        loss = sequence_loss([flow.float() for flow in flows], pair, wanted.discount, wanted.hidden_weight)
        error = torch.linalg.vector_norm(flows[-1].detach() - pair.flow, dim=1, keepdim=True)
        visible_error = (error * pair.visible).sum() / pair.visible.sum().clamp(min=1)
        self.log_dict({"loss": loss, "epe": visible_error, "share": self.share})
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if not torch.isfinite(norm):
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(self, *args: Any) -> None:
        decay = running.average_decay(int(self.taken) + 1, self.settings.half_life)
        running.update_average(self.average, self.network, decay)

    def estimator(self) -> RaftFlow | Upscaled:
        """The averaged network as the project's flow network."""
        flow = RaftFlow(self.average, self.settings.updates, "raft-small")
        return flow if self.settings.upscale == 1 else Upscaled(flow, self.settings.upscale)

    def report(self) -> dict[str, float]:
        assert isinstance(self.testing, Tensor)
        count, found = self.settings.test_pairs, {}
        if self.baselines is None:
            others: dict[str, Estimator] = {"zero": zero_flow, "dis": DISFlow()}
            self.baselines = {
                f"{name}/epe": end_point_errors(each, synthetic_pairs(self.testing, count, self.motion))[
                    "epe"
                ]
                for name, each in others.items()
            }
        with torch.autocast(self.device.type, enabled=False):
            found = end_point_errors(self.estimator(), synthetic_pairs(self.testing, count, self.motion))
        return {f"raft/{k}": round(v, 4) for k, v in found.items()} | {
            k: round(v, 4) for k, v in self.baselines.items()
        }

    def keep(self, folder: Path) -> None:
        export_flow(self.average, folder / ASSET, self.settings.updates)


class Upscaled:
    """A flow network that sees the pictures enlarged."""

    def __init__(self, flow: RaftFlow, factor: int) -> None:
        self.flow, self.factor = flow, factor

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        large = [
            F.interpolate(x, scale_factor=self.factor, mode="bilinear", align_corners=False) for x in (a, b)
        ]
        return F.interpolate(self.flow(*large), size=a.shape[-2:], mode="area") / self.factor


def export_flow(network: RAFT, path: Path, updates: int) -> None:
    """Write RAFT-small as an asset: torchvision's names, half precision."""
    save_asset(
        path, network.state_dict(), "flow", {"flow": {"kind": "raft_small", "updates": updates}}, LICENCE
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    faces.add_arguments(parser)
    running.add_arguments(parser, total_minutes=10)
    defaults = FlowSettings()
    for name in ("batch", "updates", "upscale", "test_pairs"):
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=getattr(defaults, name))
    for name in ("rate", "half_life"):
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=getattr(defaults, name))
    parser.add_argument("--largest-motion", type=float, default=Motion.largest, help="px")
    args = parser.parse_args()
    found = faces.from_arguments(args)
    names = ("batch", "updates", "upscale", "test_pairs", "rate", "half_life")
    settings = FlowSettings(**{name: getattr(args, name) for name in names})
    module = FlowTraining(found.training, found.testing, settings, Motion(largest=args.largest_motion))
    running.run(module, running.piece_of(args), vars(args), args.seed)


if __name__ == "__main__":
    main()
