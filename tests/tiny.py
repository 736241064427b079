"""The smallest networks and clip that both phases run on."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.models.mapper import LevelsMapper
from tempcons.models.perceptual import FeatureDistance, Features
from tempcons.models.stylegan2 import Generator
from tempcons.training.fit import TrainerConfig
from tempcons.training.generator_phase import GeneratorTunePhase
from tempcons.training.hyper import Hyper, PhaseHyper
from tempcons.training.latent_phase import LatentMLPPhase
from tempcons.training.phase import ConsistencyPhase
from tempcons.types import Domain, Edited

ROOT = Path(__file__).parent.parent
SIZE, STYLE_DIM, FRAMES = 32, 16, 5
FIRST_ID, STRIDE = 40, 2
CHANNELS = {4: 16, 8: 16, 16: 8, 32: 8}
CPU = TrainerConfig(accelerator="cpu")


class ZeroFlow:
    """Nothing moves."""

    name, differentiable = "zero", False

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return a.new_zeros(len(a), 2, *a.shape[-2:])

    def pair(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self(a, b), self(b, a)


class TinyDistance(FeatureDistance):
    """Two fixed random convolutions."""

    name, is_lpips = "tiny distance", False

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            self.fine = nn.Conv2d(3, 6, 3, padding=1)
            self.coarse = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.eval().requires_grad_(False)

    def _taps(self, pictures: Tensor) -> Features:
        fine = self.fine(pictures)
        return fine, self.coarse(fine.relu())

    def _channel_weights(self, tap: int) -> None:
        return None


def tiny_generator(seed: int = 0) -> Generator:
    """32 px, 8 code rows of 16 numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(SIZE, STYLE_DIM, n_mlp=2, channels=CHANNELS)
    return generator.requires_grad_(False).eval()


def tiny_codes(generator: Generator, count: int = FRAMES) -> Tensor:
    """Codes around one code, frame by frame a little apart."""
    random = torch.Generator().manual_seed(1)
    middle = torch.randn(1, generator.n_latent, STYLE_DIM, generator=random)
    return middle + 0.3 * torch.randn(count, generator.n_latent, STYLE_DIM, generator=random)


def tiny_edited(domain: Domain = "in") -> Edited:
    """Five frames with ids 40, 42, ... 48, anchor 44; the aligned input differs from the edit."""
    generator = tiny_generator()
    codes = tiny_codes(generator)
    with torch.no_grad():
        frames = to_frames(generator.synthesis(codes).clamp(-1, 1))
    aligned = np.roll(frames, 3, axis=2)
    ids = np.arange(FRAMES, dtype=np.int64) * STRIDE + FIRST_ID
    return Edited(
        codes=codes,
        frame_ids=ids,
        generator=generator,
        frames=FrameStore(frames),
        aligned=FrameStore(aligned),
        domain=domain,
        anchor_id=int(ids[FRAMES // 2]),
        key="tiny",
    )


def sample_codes(count: int, random: torch.Generator) -> Tensor:
    """W_z."""
    return torch.randn(count, 8, STYLE_DIM, generator=random)


def tiny_hyper(**changes: Any) -> Hyper:
    """The paper's terms and ours, all on, two epochs a phase."""
    paper = yaml.safe_load((ROOT / "conf" / "recipe" / "paper.yaml").read_text())["in"]
    own: dict[str, Any] = {
        "alpha": 0.1,
        "lambda_eps": 1.0,
        "lambda_r": 1.0,
        "lambda_r_perceptual": 1.0,
        "lambda_m": 1.0,
        "lambda_target": 0.5,
        "lambda_sharp": 0.1,
        "phase1": PhaseHyper(lr=0.02, epochs=2),
        "phase2": PhaseHyper(lr=1e-3, epochs=2),
    }
    return Hyper(**{**paper, **own, **changes})


def state_copy(module: nn.Module) -> dict[str, Tensor]:
    """The state as it is now."""
    return copy.deepcopy(module.state_dict())


def gradient(value: Tensor) -> Tensor:
    """The gradient that a backward pass left, which must be there."""
    assert value.grad is not None
    return value.grad


def same_state(module: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether every tensor is unchanged to the last bit."""
    now = module.state_dict()
    return now.keys() == before.keys() and all(torch.equal(now[k], v) for k, v in before.items())


def hydra_config(overrides: list[str], config_name: str = "config") -> Any:
    """The composed configuration, as ``train.py`` would see it."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose(config_name, overrides=overrides)


def tiny_phase(kind: str, **changes: Any) -> ConsistencyPhase:
    """Phase 1 ("latent") or phase 2 ("generator"), in-domain, the same every time; changes of tiny_hyper."""
    edited = tiny_edited()
    torch.manual_seed(2)
    if kind == "latent":
        mapper = LevelsMapper(edited.generator.style_dim, edited.generator.n_latent, init="random")
        return LatentMLPPhase(edited.generator, mapper, TinyDistance(), tiny_hyper(**changes), True)
    hyper = tiny_hyper(**changes)
    return GeneratorTunePhase(edited.generator, sample_codes, TinyDistance(), hyper, True, 1.0)
