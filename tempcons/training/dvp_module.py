"""Deep Video Prior: one small network fitted to one video, stopped before it learns the flicker."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tempcons.media.frames import FrameStore
from tempcons.models.video_prior import VideoPriorNet
from tempcons.training.settings import DvpConfig

MINOR_WEIGHT = 0.9
DARK_OFFSET = 0.1

Distance = Callable[[Tensor, Tensor], Tensor]
Batch = tuple[Tensor, Tensor]


class FrameByFrame(Dataset):
    """(original, edited) frames (3, H, W) on [0, 1], in order."""

    def __init__(self, original: FrameStore, edited: FrameStore) -> None:
        self.original, self.edited = original, edited

    def __len__(self) -> int:
        return len(self.edited)

    def __getitem__(self, index: int) -> Batch:
        original, edited = ((frames.pictures([index])[0] + 1) / 2 for frames in (self.original, self.edited))
        return original, edited

    def loader(self) -> DataLoader:
        """One frame a step, neither shuffled nor augmented."""
        return DataLoader(self, batch_size=1, shuffle=False)


class DeepVideoPrior(pl.LightningModule):
    """Fits a U-Net from original to edited frames of one video. No flow is used.

    Source: Lei, Xing and Chen 2020, "Blind Video Temporal Consistency via Deep Video Prior". Differs: the
    perceptual loss there takes VGG-19 features with absolute differences; here it is the mean absolute
    difference of the pictures plus ``lambda_perceptual`` times the project's perceptual distance.

    Args:
        config: settings.
        distance: perceptual distance of pictures in [-1, 1] to (B,) (models/perceptual.py).
        first: (original, edited) first frame, (1, 3, H, W) each on [0, 1]: all that IRT's first epochs see.
        seed: of the initial weights.
    """

    def __init__(self, config: DvpConfig, distance: Distance, first: Batch, seed: int = 0) -> None:
        super().__init__()
        self.config, self.distance, self.first = config, distance, first
        self.network = VideoPriorNet(outputs=2 if config.irt else 1, width=config.width, seed=seed)

    def forward(self, pictures: Tensor) -> Tensor:
        """Consistent pictures (B, 3, H, W) in [-1, 1] of the original's pictures in [-1, 1]."""
        return (2 * self.network((pictures + 1) / 2)[:, :3] - 1).clamp(-1, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One frame."""
        original, edited = self._at_resolution(self._chosen(batch))
        output = self.network(original)
        loss = self._reweighted(output, original, edited) if self.config.irt else self._loss(output, edited)
        self.log("loss", loss.detach(), on_epoch=True, on_step=False, prog_bar=True, batch_size=1)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.network.parameters(), lr=self.config.lr)

    def _chosen(self, batch: Batch) -> Batch:
        alone = self.config.irt and self.current_epoch < self.config.irt_first_epochs
        return (self.first[0].to(self.device), self.first[1].to(self.device)) if alone else batch

    def _at_resolution(self, batch: Batch) -> Batch:
        step = 2 if self.current_epoch < self.config.coarse_epochs else 1
        original, edited = (frames[..., ::step, ::step] for frames in batch)
        return original, edited

    def _loss(self, output: Tensor, edited: Tensor) -> Tensor:
        if self.config.loss == "l2":
            return (output - edited).square().mean()
        absolute = (output - edited).abs().mean()
        if self.config.loss == "l1":
            return absolute
        distance = self.distance((2 * output - 1).clamp(-1, 1), (2 * edited - 1).clamp(-1, 1)).mean()
        return absolute + self.config.lambda_perceptual * distance

    def _reweighted(self, output: Tensor, original: Tensor, edited: Tensor) -> Tensor:
        """Both outputs learn the first frame; then every pixel teaches the output that is nearer to it."""
        main, minor = ((part - edited).abs() for part in output.chunk(2, dim=1))
        if self.current_epoch < self.config.irt_first_epochs:
            return main.mean() + MINOR_WEIGHT * minor.mean()
        confident = confidence(output, original, edited)
        return (main * confident).mean() + (minor * (1 - confident)).mean()


def confidence(output: Tensor, original: Tensor, edited: Tensor) -> Tensor:
    """(B, 1, H, W) binary map, 1 where the main output is nearer to the edited frame than the minor one.

    The distance of a pixel is the largest over channels of |output - edited| / (original + 0.1). No gradient.

    Args:
        output: (B, 6, H, W), main and minor.
        original: (B, 3, H, W) on [0, 1].
        edited: (B, 3, H, W) on [0, 1].
    """
    with torch.no_grad():
        far = [
            ((part - edited).abs() / (original + DARK_OFFSET)).amax(1, keepdim=True)
            for part in output.chunk(2, dim=1)
        ]
        return (far[0] < far[1]).to(output.dtype)
