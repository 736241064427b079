"""Settings that say how a fit is computed: they act, and what is learned stays the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny import CPU, SIZE, TinyDistance, ZeroFlow, tiny_codes, tiny_edited, tiny_generator, tiny_phase
from torch import Tensor, nn

from tempcons.check import ConfigError
from tempcons.media.range import to_frames
from tempcons.metrics.ewarp import e_warp
from tempcons.training import computing
from tempcons.training.computing import HowToCompute, lay_out, tf32
from tempcons.training.fit import fit
from tempcons.training.flow_masks import FlowMaskCallback
from tempcons.training.pairs import AnchorPairDataModule
from tempcons.training.settings import TrainerConfig


class Look(pl.Callback):
    """What a fit's first step finds."""

    def __init__(self) -> None:
        self.seen: dict[str, object] = {}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        generator = pl_module.generator
        self.seen = {
            "checkpointing": generator.checkpointing,
            "compiled": "synthesis" in generator.__dict__,
            "channels_last": generator.input.input.is_contiguous(memory_format=torch.channels_last),
            "fused": [group.get("fused") for group in trainer.optimizers[0].param_groups],
            "matmul": torch.get_float32_matmul_precision(),
        }


def fitted(folder: Path, kind: str = "generator", **settings: object) -> tuple[Tensor, dict[str, object]]:
    """Pictures after a short fit, and what its steps found."""
    edited, phase, look = tiny_edited(), tiny_phase(kind), Look()
    trainer = TrainerConfig(accelerator="cpu", **settings)  # type: ignore[arg-type]
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", trainer.pairs_per_step, 4)
    fit(
        phase,
        data,
        folder,
        trainer,
        kind,
        epochs=2,
        callbacks=[FlowMaskCallback(ZeroFlow(), SIZE, True), look],
    )
    return phase.render(edited.codes), look.seen  # type: ignore[operator]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Tensor:
    torch.manual_seed(0)
    pictures, seen = fitted(tmp_path_factory.mktemp("plain"))
    assert seen == {
        "checkpointing": False,
        "compiled": False,
        "channels_last": False,
        "fused": [True],
        "matmul": "highest",
    }
    return pictures


@pytest.mark.parametrize("setting", ["checkpointing", "channels_last", "fused_adam", "tf32"])
def test_a_fit_learns_the_same(tmp_path, plain, setting):
    """With each of them the other way round than by default."""
    settings: dict[str, Any] = {setting: setting != "fused_adam"}
    pictures, seen = fitted(tmp_path, **settings)
    found = {"fused_adam": "fused", "tf32": "matmul"}.get(setting, setting)
    assert seen[found] == {"fused": [None], "matmul": "high"}.get(found, True)
    torch.testing.assert_close(pictures, plain, atol=2e-4, rtol=0)


def test_after_a_fit_all_is_as_before(tmp_path):
    edited, phase = tiny_edited(), tiny_phase("generator")
    trainer = TrainerConfig("cpu", checkpointing=True, channels_last=True, tf32=True)
    data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", 1, 4)
    before = torch.get_float32_matmul_precision()
    fit(phase, data, tmp_path, trainer, "x", epochs=1, callbacks=[FlowMaskCallback(ZeroFlow(), SIZE, True)])
    assert not phase.generator.checkpointing  # type: ignore[union-attr]
    assert all(p.is_contiguous() for p in phase.parameters())
    assert torch.get_float32_matmul_precision() == before


def test_compilation_goes_through_torch_and_is_undone(tmp_path, plain, monkeypatch):
    compiled = []

    def compile_(function):
        compiled.append(function.__name__)
        return lambda *args, **kwargs: function(*args, **kwargs)

    monkeypatch.setattr(computing.torch, "compile", compile_)
    pictures, seen = fitted(tmp_path, compile=True)
    assert seen["compiled"] and {"synthesis", "_taps"} <= set(compiled)
    torch.testing.assert_close(pictures, plain, atol=0, rtol=0)
    network = TinyDistance()
    computing.compile_in_place(network)
    computing.undo_compilation(network)
    assert "_taps" not in network.__dict__


def gradients(checkpointing: bool) -> list[Tensor]:
    generator = tiny_generator().requires_grad_(True)
    generator.checkpointing = checkpointing
    codes = tiny_codes(generator, 2).requires_grad_(True)
    picture = generator.synthesis(codes)
    trained = [codes, *(p for n, p in generator.named_parameters() if not n.startswith("style."))]
    return list(torch.autograd.grad(picture.square().sum(), trained))


def test_checkpointing_gives_the_same_gradients_and_keeps_less():
    for plain, checkpointed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, checkpointed)
    assert kept_bytes(True) < 0.7 * kept_bytes(False)


def kept_bytes(checkpointing: bool) -> int:
    """Storages kept for the way back, without the weights."""
    generator = tiny_generator().requires_grad_(True)
    generator.checkpointing = checkpointing
    weights = {p.untyped_storage().data_ptr() for p in generator.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = generator.synthesis(tiny_codes(generator, 2))
    del kept
    return sum(sizes.values())


def test_feature_maps_take_over_the_memory_format():
    generator, formats = tiny_generator(), []
    codes = tiny_codes(generator, 2)
    with torch.no_grad():
        plain = generator.synthesis(codes)
        lay_out(generator, torch.channels_last)
        for module in generator.modules():
            if isinstance(module, nn.Module) and type(module).__name__ == "StyledConv":
                module.register_forward_hook(
                    lambda _m, _i, out: formats.append(out.is_contiguous(memory_format=torch.channels_last))
                )
        torch.testing.assert_close(generator.synthesis(codes), plain, atol=1e-5, rtol=0)
    assert formats and all(formats)


def video_error(pictures: Tensor) -> float:
    """Warping error of neighbours along the flow, which is zero in the tiny family."""
    shown = pictures.clamp(-1, 1)
    still, seen = torch.zeros(1, 2, SIZE, SIZE), torch.ones(1, 1, SIZE, SIZE)
    errors = [e_warp(shown[t : t + 1], shown[t + 1 : t + 2], still, seen) for t in range(len(shown) - 1)]
    return torch.stack(errors).mean().item()


@pytest.mark.parametrize("kind", ["latent", "generator"])
def test_bfloat16_autocast_changes_the_warping_error_by_less_than_two_percent(tmp_path, kind):
    exact, _ = fitted(tmp_path / "exact", kind)
    rounded, _ = fitted(tmp_path / "rounded", kind, precision="bf16-mixed")
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert video_error(rounded) == pytest.approx(video_error(exact), rel=0.02)
    assert to_frames(exact.clamp(-1, 1)).shape == to_frames(rounded.clamp(-1, 1)).shape


def test_pairs_read_ahead_are_the_same_pairs():
    edited = tiny_edited()
    read = []
    for workers in (0, 1):
        data = AnchorPairDataModule(edited, edited.codes, edited.frames, "both", 2, seed=3)
        data.workers = workers
        read.append(list(data.train_dataloader()))
    assert len(read[0]) == len(read[1]) == 4
    for one, other in zip(*read, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_learning_rate_follows_the_pairs_of_a_step():
    rates = {
        rule: TrainerConfig(pairs_per_step=2, devices=2, lr_rule=rule).rate_factor
        for rule in ("constant", "sqrt", "linear")
    }
    assert rates == {"constant": 1.0, "sqrt": 2.0, "linear": 4.0}
    assert math.prod(TrainerConfig(lr_rule=rule).rate_factor for rule in rates) == 1.0
    with pytest.raises(ConfigError, match="did you mean sqrt"):
        TrainerConfig(lr_rule="sqr")


def test_several_pairs_a_step_take_fewer_steps(tmp_path):
    edited, steps = tiny_edited(), []
    for pairs in (1, 2):
        phase = tiny_phase("latent")
        data = AnchorPairDataModule(edited, edited.codes, edited.frames, "anchor", pairs, 4)
        callbacks = [FlowMaskCallback(ZeroFlow(), SIZE, True)]
        done = fit(phase, data, tmp_path / str(pairs), CPU, "x", epochs=1, callbacks=callbacks)
        steps.append(done.global_step)
    assert steps == [4, 2]


def test_tf32_is_put_back_after_an_error():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ValueError), tf32(True):
        assert torch.get_float32_matmul_precision() == "high"
        raise ValueError
    assert torch.get_float32_matmul_precision() == before


def test_keys_know_what_results_depend_on():
    assert TrainerConfig().numerics == "32-true"
    assert TrainerConfig(tf32=True).numerics != TrainerConfig().numerics
    assert HowToCompute(TrainerConfig(channels_last=True)).config.numerics == "32-true"
