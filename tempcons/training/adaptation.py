"""Adapting a generator to a text: StyleGAN-NADA's objective on its twin generators."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from tempcons.edits.config import AdaptConfig
from tempcons.losses.text_direction import directional_loss, global_loss
from tempcons.models.clip import TextImageModel
from tempcons.models.stylegan2 import Generator
from tempcons.training.trained_part import TrainedPart

CodeSampler = Callable[[int, torch.Generator], Tensor]
BETAS = (0.0, 0.992)  # StyleGAN2's (0, 0.99) with lazy regularisation
LAYER_LR = 0.01
STEPS_AN_EPOCH = 50


class CodeDataset(Dataset):
    """Sampled codes (L, D), each a function of seed and index alone."""

    def __init__(self, sample_codes: CodeSampler, count: int, seed: int) -> None:
        self.sample_codes, self.count, self.seed = sample_codes, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.sample_codes(1, torch.Generator().manual_seed(self.seed * 1_000_003 + index))[0]


class EpochRange(Sampler[int]):
    """The next ``count`` whole numbers in each epoch, so that a resumed run sees the same codes."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.count, (self.epoch + 1) * self.count))


def code_loader(sample_codes: CodeSampler, config: AdaptConfig, seed: int) -> DataLoader:
    """Batches of fresh codes; an epoch is at most 50 steps, so that checkpoints come at a steady pace."""
    count = min(STEPS_AN_EPOCH, config.steps) * config.batch
    data = CodeDataset(sample_codes, count, seed)
    return DataLoader(data, batch_size=config.batch, sampler=EpochRange(count))


class GeneratorAdaptation(TrainedPart):
    """Trains a copy of the generator so that its pictures change as the text does.

    The learned constant and the convolutions are trained; mapping network and RGB outputs stay.

    Args:
        generator: the base; stays as it is.
        models: text-image networks with their weights in the loss.
        texts: what to go from and to.
        sample_codes: codes that are moved to find the layers to train.
        config: settings.
        seed: of noise and codes; the step number is mixed in, so a resumed run draws the same.

    Source: Gal et al., StyleGAN-NADA, SIGGRAPH 2022; unlike the released code, a row of the codes stands
    for the convolution that it drives.
    """

    trained = "generator"

    def __init__(
        self,
        generator: Generator,
        models: list[tuple[TextImageModel, float]],
        texts: tuple[str, str],
        sample_codes: CodeSampler,
        config: AdaptConfig,
        seed: int,
    ) -> None:
        super().__init__()
        self.frozen = generator.requires_grad_(False).eval()
        self.generator = copy.deepcopy(generator)
        self.models, self.shares = nn.ModuleList(m for m, _ in models), [share for _, share in models]
        self.texts, self.sample_codes, self.config, self.seed = texts, sample_codes, config, seed
        self.targets: list[Tensor] = []
        self.directions: list[Tensor] = []
        for module in (self.generator.input, *self.convolutions()):
            module.requires_grad_(True)

    def convolutions(self) -> list[nn.Module]:
        """The styled convolutions; number i is driven by row i of the codes."""
        return [self.generator.conv1, *self.generator.convs]

    def on_fit_start(self) -> None:
        self.targets = [model.text(self.texts[1]) for model in self.networks()]
        self.directions = [model.direction(*self.texts) for model in self.networks()]

    def networks(self) -> list[TextImageModel]:
        return [model for model in self.models if isinstance(model, TextImageModel)]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.config.layers is not None:
            self.train_only(self.moved_layers(self.config.layers))
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step)
        with torch.no_grad():
            before = self.frozen.synthesis(batch, noise_of(self.frozen, batch, random))
        after = self.generator.synthesis(batch, noise_of(self.frozen, batch, random))
        loss = self.text_loss(before.clamp(-1, 1), after.clamp(-1, 1))
        self.log("loss", loss.detach(), on_step=True, batch_size=len(batch))
        return loss

    def text_loss(self, before: Tensor, after: Tensor) -> Tensor:
        """Weighted sum over networks of the directional and the global loss of pictures (B, 3, S, S)."""
        config, total = self.config, after.new_zeros(())
        for at, model in enumerate(self.networks()):
            features = model.pictures(after)
            if config.lambda_direction:
                change = directional_loss(model.pictures(before), features, self.directions[at])
                total = total + self.shares[at] * config.lambda_direction * change
            if config.lambda_global:
                away = global_loss(features, self.targets[at])
                total = total + self.shares[at] * config.lambda_global * away
        return total

    def moved_layers(self, count: int) -> list[int]:
        """The ``count`` convolutions whose rows move most when codes are drawn to the target text.

        Source: Gal 2022, adaptive layer freezing.
        """
        random = torch.Generator().manual_seed(self.seed * 1_000_003 + self.global_step + 500_009)
        start = self.sample_codes(self.config.layer_batch, random).to(self.device)
        codes = start.clone()
        for _ in range(self.config.layer_steps):
            codes = codes.detach().requires_grad_(True)
            pictures = self.generator.synthesis(codes).clamp(-1, 1)
            losses = [
                share * global_loss(model.pictures(pictures), target)
                for model, share, target in zip(self.networks(), self.shares, self.targets, strict=True)
            ]
            [slope] = torch.autograd.grad(torch.stack(losses).sum(), [codes])
            codes = codes - LAYER_LR * slope
        # The last row drives an RGB output alone, which is never trained.
        moved = (codes - start).detach().abs().mean(dim=(0, 2))[:-1]
        return moved.topk(min(count, len(moved))).indices.tolist()

    def train_only(self, layers: list[int]) -> None:
        """Let gradients reach these convolutions alone; Adam leaves alone what has none."""
        self.generator.input.requires_grad_(False)
        for index, module in enumerate(self.convolutions()):
            module.requires_grad_(index in layers)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [p for m in (self.generator.input, *self.convolutions()) for p in m.parameters()]
        return torch.optim.Adam(trained, lr=self.config.lr, betas=BETAS)

    def differences(self) -> dict[str, Tensor]:
        """What training has changed: trained minus base, by the generator's own names."""
        base = self.frozen.state_dict()
        state = self.generator.state_dict()
        return {k: (v - base[k]).cpu() for k, v in state.items() if not torch.equal(v, base[k])}


def noise_of(generator: Generator, codes: Tensor, random: torch.Generator) -> list[Tensor]:
    """Noise pictures for a batch, drawn from ``random`` on the CPU: the same on every device."""
    shapes = [(len(codes), *noise.shape[1:]) for noise in generator.const_noises()]
    return [torch.randn(shape, generator=random).to(codes) for shape in shapes]
