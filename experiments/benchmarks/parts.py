"""Networks, frames and settings that training steps are timed with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.models.optical_flow import raft_large

from experiments.composed import composed
from tempcons.family import Family, load_family
from tempcons.geometry.quad import CropRule
from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.models.code_sampler import MappingSampler, mean_style
from tempcons.models.flow import DISFlow, FlowNetwork, RaftFlow
from tempcons.models.perceptual import LpipsDistance
from tempcons.models.stylegan2 import Generator
from tempcons.runtime import pick_device
from tempcons.schema import Config
from tempcons.training.hyper import Hyper
from tempcons.training.settings import TrainerConfig
from tempcons.types import Edited

# An epoch has two pairs.
FRAMES = 3
# How far the codes of frames are from each other; random networks then give flows of a few pixels.
SPREAD = 0.1


@dataclass(frozen=True)
class Size:
    """A generator in NVIDIA's layout and the side at which flow is computed."""

    side: int
    channel_base: int
    channel_max: int
    flow_side: int
    style_dim: int = 512

    @property
    def channels(self) -> dict[int, int]:
        """Feature maps by resolution."""
        return {2**k: min(self.channel_base // 2**k, self.channel_max) for k in range(2, 11)}


SIZES = {
    "ffhq-1024": Size(1024, 32768, 512, 256),
    "ffhq-256": Size(256, 4096, 256, 128),
    # The plumbing alone, for tests.
    "tiny": Size(64, 256, 16, 32, style_dim=16),
}
# What train.py would be told; the naive composition has the terms of recipe=paper.
SETTINGS = {
    name: ("family=ffhq", "edit=smile", f"family.size={size.side}", f"family.flow.size={size.flow_side}")
    for name, size in SIZES.items()
} | {"embedded": ("edit=surprised", "recipe=paper"), "embedded-default": ("edit=surprised",)}


@dataclass(frozen=True)
class Parts:
    """What all ways of running the phases are given; networks are frozen."""

    name: str
    edited: Edited
    family: Family
    hyper: Hyper
    trainer: TrainerConfig
    device: torch.device


def make_parts(
    name: str, accelerator: str, seed: int, settings: tuple[str, ...] = (), frames: int = FRAMES
) -> Parts:
    """The parts of a setting.

    Args:
        name: one of ``SETTINGS``; "embedded" has the paper's terms, "embedded-default" its own recipe's.
        accelerator: "cpu" or "gpu".
        seed: of random weights and codes.
        settings: further arguments, such as ``speed=fast``.
        frames: length of the clip.
    """
    torch.manual_seed(seed)
    config = composed(*SETTINGS[name], f"trainer.accelerator={accelerator}", *settings)
    device = pick_device(accelerator)
    loaded = random_family(name, config, device) if name in SIZES else load_family(config.family, device)
    family = config.speed.family(loaded)
    family.place()
    apart = family.sample_codes(frames, torch.Generator().manual_seed(seed))
    codes = family.mean_code + SPREAD * (apart.to(family.mean_code) - family.mean_code)
    trainer = config.speed.trainer(config.trainer)
    return Parts(name, drawn(family.generator, codes, device), family, config.hyper, trainer, device)


def random_family(name: str, config: Config, device: torch.device) -> Family:
    """A family with random weights: a generator of a size, and the paper's RAFT and LPIPS."""
    size = SIZES[name]
    generator = Generator(size.side, size.style_dim, channels=size.channels, conv_clamp=256)
    generator.requires_grad_(False).eval()
    middle, alpha_interp = mean_style(generator), config.family.alpha_interp
    assert alpha_interp is not None
    return Family(
        name=config.family.name,
        size=size.side,
        crop=CropRule(),
        generator=generator,
        encoder=None,
        sample_codes=MappingSampler(generator, middle, config.family.truncation),
        mean_code=middle.expand(generator.n_latent, -1).clone(),
        alpha_interp=alpha_interp,
        flow=random_flow(name, config.family.flow.updates),
        flow_size=size.flow_side,
        second_flow=DISFlow(),
        perceptual=LpipsDistance("alex", random=True),
        device=device,
        records=[],
        depends={part: {} for part in ("networks", "perceptual", "flow", "second_flow", "sampling")},
    )


def random_flow(name: str, updates: int) -> FlowNetwork:
    """RAFT with random weights; another estimator where pictures are too small for it."""
    return DISFlow() if name == "tiny" else RaftFlow(raft_large(weights=None), updates, "raft-large")


@torch.no_grad()
def drawn(generator: Generator, codes: Tensor, device: torch.device) -> Edited:
    """Frames of codes (T, L, D); the aligned inputs are the same, a little shifted."""
    generator.to(device)
    pictures = torch.cat([generator.synthesis(code[None].to(device)) for code in codes])
    frames = to_frames((pictures / pictures.abs().amax().clamp_min(1)).clamp(-1, 1).cpu())
    return Edited(
        codes=codes,
        frame_ids=np.arange(len(codes)),
        generator=generator.to("cpu"),
        frames=FrameStore(frames),
        aligned=FrameStore(np.roll(frames, generator.size // 64 + 1, axis=2)),
        domain="in",
        anchor_id=len(codes) // 2,
        key="bench",
    )
