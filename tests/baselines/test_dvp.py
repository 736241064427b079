"""Deep Video Prior: it follows the edit, leaves flicker out, repeats, and resumes."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from tempcons.baselines.dvp import deep_video_prior
from tempcons.check import ConfigError, InputError
from tempcons.media.frames import FrameStore
from tempcons.media.range import to_frames
from tempcons.training.dvp_module import DeepVideoPrior, DvpConfig, FrameByFrame, confidence
from tempcons.training.fit import TrainerConfig

TRAINER = TrainerConfig(accelerator="cpu")
FRAMES, HEIGHT, WIDTH = 4, 18, 20
SMALL = DvpConfig(epochs=20, lr=3e-3, loss="l1", width=4, coarse_to_fine=False)


def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    assert x.min() >= -1 and x.max() <= 1
    return (x - y).abs().mean((1, 2, 3))


@pytest.fixture(scope="module")
def clip() -> tuple[FrameStore, FrameStore, torch.Tensor]:
    """Original, flickering edit (inverted, brightness jumping), and the edit without flicker."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 6, 8, generator=generator) - 0.5
    wide = torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH + FRAMES), mode="bicubic")
    original = torch.cat([wide[..., t : t + WIDTH] for t in range(FRAMES)])
    clean = -0.8 * original
    jumps = torch.tensor([0.15, -0.15]).repeat(FRAMES // 2).view(FRAMES, 1, 1, 1)
    return FrameStore(to_frames(original)), FrameStore(to_frames(clean + jumps)), clean


def train(clip, folder, config=SMALL, seed=0) -> FrameStore:
    folder.mkdir(exist_ok=True)
    return deep_video_prior(clip[0], clip[1], distance, config, TRAINER, folder, seed)


@pytest.fixture(scope="module")
def result(clip, tmp_path_factory) -> FrameStore:
    return train(clip, tmp_path_factory.mktemp("dvp"))


def test_it_learns_the_edit_without_its_flicker(clip, result):
    original, edited, clean = clip
    assert len(result) == len(edited) and result.size == edited.size == (HEIGHT, WIDTH)
    pictures = result.pictures()
    assert (pictures - clean).abs().mean() < 0.5 * (original.pictures() - clean).abs().mean()
    brightness = [frames.pictures().mean((1, 2, 3)).diff().abs().mean() for frames in (edited, result)]
    assert brightness[1] < 0.3 * brightness[0]


def test_same_seed_same_frames(clip, result, tmp_path):
    short = DvpConfig(epochs=1, loss="l1", width=2)
    one, two, other = (train(clip, tmp_path / str(i), short, seed) for i, seed in enumerate((0, 0, 1)))
    assert np.array_equal(one.array, two.array)
    assert not np.array_equal(one.array, other.array)
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["frames.npy"]


@pytest.mark.parametrize(
    "config",
    [
        DvpConfig(epochs=1, width=2),
        DvpConfig(epochs=1, width=2, loss="l2"),
        DvpConfig(epochs=2, width=2, irt=True, irt_first_epochs=1),
    ],
    ids=["perceptual", "l2", "irt"],
)
def test_every_loss_trains(clip, tmp_path, config):
    assert len(train(clip, tmp_path / "run", config)) == FRAMES


def test_coarse_epochs():
    assert DvpConfig().coarse_epochs == 19
    assert DvpConfig(coarse_to_fine=False).coarse_epochs == 0
    assert DvpConfig(epochs=1).coarse_epochs == 0


def test_resolution_and_order_of_the_steps(clip):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            seen.append(
                (trainer.current_epoch, module._at_resolution(batch)[0].shape[-1], batch[1].mean().item())
            )

    config = DvpConfig(epochs=2, loss="l1", width=2)
    pairs = FrameByFrame(clip[0], clip[1])
    module = DeepVideoPrior(config, distance, (pairs[0][0][None], pairs[0][1][None]))
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[Watch()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, pairs.loader())
    assert config.coarse_epochs == 1
    assert all(width == (WIDTH if epoch else WIDTH // 2) for epoch, width, _ in seen)
    means = [(clip[1].pictures([t]).mean().item() + 1) / 2 for t in range(FRAMES)]
    np.testing.assert_allclose([mean for _, _, mean in seen], means * 2, rtol=1e-5)


def test_confidence_by_hand():
    original, edited = torch.full((1, 3, 1, 2), 0.4), torch.zeros(1, 3, 1, 2)
    output = torch.zeros(1, 6, 1, 2)
    output[:, 0, 0, 0] = 0.5  # the main output misses the first pixel
    output[:, 4, 0, 1] = 0.1  # the minor one the second
    assert confidence(output, original, edited).tolist() == [[[[0.0, 1.0]]]]


def test_bad_settings_and_videos_are_refused(clip, tmp_path):
    with pytest.raises(ConfigError, match="did you mean perceptual"):
        DvpConfig(loss="perceptal")
    with pytest.raises(ConfigError, match="epochs = 0"):
        DvpConfig(epochs=0)
    with pytest.raises(ConfigError, match="lr = -1"):
        DvpConfig(lr=-1)
    with pytest.raises(InputError, match="4 frames of 20x18, edited 3 frames"):
        deep_video_prior(clip[0], FrameStore(clip[1].array[:3]), distance, SMALL, TRAINER, tmp_path)
