"""Pivotal tuning: the generator learns the clip around fixed codes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tempcons.check import ConfigError
from tempcons.losses.local_detail import sharpness_loss
from tempcons.losses.local_regularisation import local_regularisation_loss, move_code
from tempcons.media.frames import FrameStore
from tempcons.models.perceptual import FeatureDistance
from tempcons.models.stylegan2 import Generator
from tempcons.muon import Muon, with_kernels
from tempcons.training.feature_cache import FeatureCache
from tempcons.training.pairs import EpochShuffle
from tempcons.training.schedule import scheduled
from tempcons.training.settings import PivotalConfig
from tempcons.training.trained_part import TrainedPart

# (n, random source) to (n, L, D) codes W_z, and how far from the pivot towards one the regularisation looks.
Surroundings = tuple[Callable[[int, torch.Generator], Tensor], float]


class FrameDataset(Dataset):
    """Codes, aligned frames, and their positions."""

    def __init__(self, codes: Tensor, frames: FrameStore, repeats: int) -> None:
        self.codes, self.frames, self.repeats = codes, frames, repeats

    def __len__(self) -> int:
        return len(self.frames) * self.repeats

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        at = index % len(self.frames)
        return self.codes[at], self.frames.pictures([at])[0], at


class PivotalTuning(TrainedPart):
    """Tunes a copy of the generator so that it renders the aligned frames from their codes.

    Args:
        generator: the base; stays as it is.
        perceptual: distance of the losses.
        config: settings.
        surroundings: where the local regularisation looks; None if it is off.
        seed: of the sampled codes; the step number is mixed in, so a resumed run draws the same.

    Source: Roich 2021, "Pivotal Tuning for Latent-based Editing of Real Images"; one generator for
    the whole clip, batches instead of passes frame by frame.
    """

    trained = "generator"

    def __init__(
        self,
        generator: Generator,
        perceptual: FeatureDistance,
        config: PivotalConfig,
        surroundings: Surroundings | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.generator = copy.deepcopy(generator)
        learn_from(self.generator, config.first_layer)
        self.perceptual_distance, self.config = perceptual, config
        self.frame_features = FeatureCache(perceptual)
        self.original = None if surroundings is None else generator.requires_grad_(False).eval()
        self.surroundings, self.seed = surroundings, seed

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        codes, frames, at = batch
        pictures = self.generator.synthesis(codes)
        squared = (pictures - frames).square().mean()
        loss = self.config.lambda_l2 * squared
        if self.config.lambda_perceptual:
            features = self.perceptual_distance.features(pictures.clamp(-1, 1))
            fixed = self.frame_features("aligned", at.tolist(), frames)
            distance = self.perceptual_distance.distance_of_features(features, fixed).mean()
            loss = loss + self.config.lambda_perceptual * distance
        if self.config.lambda_sharp:
            loss = loss + self.config.lambda_sharp * sharpness_loss(pictures, frames)
        every = self.config.regularise_every
        if self.config.lambda_r and self.global_step % every == 0:
            loss = loss + every * self.config.lambda_r * self.local_regularisation(codes)
        psnr = -10 * torch.log10(squared.detach() / 4)
        self.log("psnr_db", psnr, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(codes))
        return loss

    def local_regularisation(self, codes: Tensor) -> Tensor:
        """L_r at one code near each pivot. Source: Roich 2021, locality regularisation."""
        if self.original is None or self.surroundings is None:
            raise ConfigError("invert", "the local regularisation has nowhere to look", "give surroundings")
        sample_codes, distance = self.surroundings
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        moved = move_code(codes, sample_codes(len(codes), random).to(codes), distance)
        with torch.no_grad():
            old = self.original.synthesis(moved, "none")
        new = self.generator.synthesis(moved, "none")
        weights = (self.config.lambda_r_l2, self.config.lambda_r_perceptual)
        return local_regularisation_loss(old, new, self.perceptual_distance, *weights)

    def on_train_epoch_end(self) -> None:
        limit = self.config.stop_psnr_db
        if limit is not None and self.trainer.callback_metrics["psnr_db_epoch"] >= limit:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trained = {name: p for name, p in self.generator.named_parameters() if p.requires_grad}
        styles = [p for name, p in trained.items() if ".modulation." in name]
        others = [p for name, p in trained.items() if ".modulation." not in name]
        rate, share = self.config.lr, self.config.modulation_rate
        groups = with_kernels(others, rate, self.config.kernel_lr)
        groups.append({"params": styles, "lr": share * rate})
        optimiser = Muon(groups, lr=rate, betas=(0.9, self.config.beta2))
        return scheduled(optimiser, self.config.steps, self.config.schedule)


def learn_from(generator: Generator, first: int) -> None:
    """Let the synthesis layers learn from convolution ``first`` on, all of them with 0; never the mapping.

    Raises:
        ConfigError: the generator has no such convolution.
    """
    layers = generator.num_noises
    if first >= layers:
        found = f"inversion.pivotal.first_layer = {first}, but the generator has {layers} layers"
        raise ConfigError("invert", found, "set it lower")
    generator.requires_grad_(first == 0)
    generator.style.requires_grad_(False)
    for parameter in generator.layer_parameters(first):
        parameter.requires_grad_(True)


def frame_loader(codes: Tensor, frames: FrameStore, config: PivotalConfig, seed: int) -> DataLoader:
    """Batches that go through the clip in another order each time.

    An epoch is about 50 steps, so that checkpoints come at a steady pace.
    """
    repeats = max(1, math.ceil(min(50, config.steps) * config.batch / len(frames)))
    data = FrameDataset(codes, frames, repeats)
    sampler = EpochShuffle(len(data), seed, rounds=repeats)
    return DataLoader(data, batch_size=config.batch, sampler=sampler, drop_last=True)
