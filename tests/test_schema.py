"""Settings that are wrong, or don't go together, are refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
from composed import check_refused, parsed, refusals
from hydra.errors import ConfigCompositionException
from tiny import tiny_hyper

from tempcons.check import ConfigError
from tempcons.edits.config import EditConfig, EditSource
from tempcons.schema import writable
from tempcons.stages.edit import anchor_frame
from tempcons.training.hyper import PhaseHyper


@refusals(
    (["phase=bth"], "phase = 'bth'.*both"),
    (["phase=3"], "phase = 3"),
    (["+clip.nm_frames=3"], "clip has no setting 'nm_frames'.*num_frames"),
    (["+phase1.epoch=3"], "phase1 has no setting 'epoch'.*epochs"),
    (["+inversion.pivotal.stps=3"], "inversion.pivotal has no setting 'stps'.*steps"),
    (["~clip.path"], "clip.path is not set"),
    (["clip.num_frames=many"], "clip.num_frames = 'many'.*int"),
    (["clip.num_frames=2.5"], "clip.num_frames = 2.5.*int"),
    (["seed=x"], "seed = 'x'.*int"),
    (["anchor=middle"], "anchor = 'middle'.*int"),
    (["alpha=big"], "alpha = 'big'.*float"),
    (["alpha=true"], "alpha = True.*float"),
    (["mask_detach=1"], "mask_detach = 1.*bool"),
    (["phase1=3"], "phase1 = 3.*settings"),
    (["lambda_r=-1"], "lambda_r = -1.*negative"),
    (["lambda_r=0", "lambda_target=0", "lambda_sharp=0"], "weights of the losses are 0.*lambda_photo"),
    (["lambda_eps=-0.5"], "lambda_eps = -0.5.*negative"),
    (["alpha=-0.04"], "alpha = -0.04.*negative"),
    (["phase1.lr=0"], "phase1 has lr 0"),
    (["phase2.epochs=-1"], "phase2 has .*epochs -1"),
    (["regularise_every=0"], "regularise_every = 0"),
    (["pairs=anchors"], "pairs = 'anchors'.*anchor, neighbour, both"),
    (["target=mean"], "target = 'mean'.*direct"),
    (["mapper_init=ones"], "mapper_init = 'ones'.*zero"),
    (["trainer.pairs_per_step=0"], "pairs_per_step = 0"),
    (["logger.wandb=yes"], "logger.wandb"),
    (["edit.domain=out"], "surprised is a direction but edit.domain=out"),
    (["edit=nada_sketch", "edit.domain=in"], "nada_sketch is a generator but edit.domain=in"),
    (["edit.sources.embedded.kind=directions"], "kind 'directions'.*direction"),
    (["edit=happy", "family.name=ffhq"], "happy does not exist for family=ffhq.*embedded"),
    (["inversion.name=magic"], "inversion = 'magic'.*encoder.*pti"),
    (["edit.domain=sideways"], r"^config: edit\.domain = 'sideways'; known: in, out$"),
    (
        ["family=ffhq", "edit=depp", "edit.domain=sideways"],
        r"^config: edit\.domain = 'sideways'; known: in, out$",
    ),
    (["+lamda_r=5"], "no setting 'lamda_r'; did you mean lambda_r"),
    (["+lambdas.r=5"], "no setting 'lambdas'"),
    (["+recipe.in.lamda_r=5"], r"recipe\.in has no setting 'lamda_r'; did you mean lambda_r"),
    (["+comparison.out.phase1.epoch=5"], r"comparison\.out\.phase1 has no setting 'epoch'.*epochs"),
    (["+recipe.inn.alpha=5"], "recipe has no setting 'inn'"),
    (["~recipe.out"], r"recipe\.out is not set"),
    (["+sweep.nam=x"], "sweep has no setting 'nam'.*name"),
    (["+family.flow.prset=fast"], r"family\.flow has no setting 'prset'.*preset"),
    (["~seed"], "seed is not set"),
    (["~clip"], "clip is not set"),
    (["compare=maybe"], "compare = 'maybe'.*bool"),
    (["compare=1"], "compare = 1.*bool"),
    (["lambda_r=nan"], "lambda_r = nan.*finite"),
    (["lambda_r=inf"], "lambda_r = inf.*finite"),
    (["alpha=-inf"], "alpha = -inf.*finite"),
    (["phase1.lr=nan"], r"phase1\.lr = nan.*finite"),
    (["edit.strength=nan"], r"edit\.strength = nan.*finite"),
    (["align.smoothing_s=nan"], r"align\.smoothing_s = nan.*finite"),
    (["inversion.pivotal.stop_psnr_db=inf"], "stop_psnr_db = inf.*finite"),
    (["inversion.pivotal.lambda_l2=-1"], "lambda_l2 = -1.*0 or more"),
    (["inversion.pivotal.steps=0"], "steps = 0.*1 or more"),
    (["inversion.pivotal.lr=0"], "lr = 0.*positive"),
    (["inversion.pivotal.kernel_lr=0"], "kernel_lr = 0.*positive"),
    (["phase2.kernel_lr=0"], r"phase2\.kernel_lr = 0.*positive, or null"),
    (["+phase1.kernel_lr=0.01"], r"phase1\.kernel_lr = 0\.01, but phase 1 trains no convolutions"),
    (["inversion.pivotal.schedule=cosin"], "schedule = 'cosin'.*cosine"),
    (["align.face=[1]"], "align.face = "),
    (["align.face_box=3"], "align.face_box = 3.*list"),
    (["logger.tags=x"], "logger.tags = 'x'.*list"),
    (["trainer.devices=0"], "trainer.devices = 0"),
    (["trainer.num_threads=0"], "trainer.num_threads = 0"),
    (["metrics.every_epochs=-1"], "metrics.every_epochs = -1"),
    (["metrics.slice_row=1.5"], "metrics.slice_row = 1.5"),
    (["family.crop_scale=0"], "family.crop_scale = 0"),
    (["family.alpha_interp=-3"], "family.alpha_interp = -3"),
    (["family.flow.upscale=0"], "upscale 0"),
)
def test_refused(overrides, message):
    check_refused(overrides, message)


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ConfigCompositionException, match="lamda_r"):
        parsed("lamda_r=3")


def test_whole_numbers_do_for_real_ones():
    hyper = parsed("lambda_r=3", "alpha=0").hyper
    assert hyper.lambda_r == 3.0 and isinstance(hyper.lambda_r, float)
    assert hyper.alpha == 0.0


def test_null_where_it_is_allowed():
    config = parsed("clip.num_frames=null", "anchor=null")
    assert config.clip.num_frames is None and config.anchor is None
    with pytest.raises(ConfigError, match="seed = None"):
        parsed("seed=null")


def test_composed_settings_are_plain_values():
    composed = parsed("lambda_r=7").composed
    assert composed["lambda_r"] == 7
    assert type(composed["clip"]) is dict


def test_an_edit_of_another_family_names_where_it_exists():
    edit = EditConfig("purple", "in", 1.0, "purple hair", {"ffhq": EditSource("direction", "purple")})
    with pytest.raises(ConfigError, match=r"purple does not exist for family=embedded.*ffhq"):
        edit.source_in("embedded")


def test_anchor_is_the_middle_frame():
    assert anchor_frame(np.arange(40, 71), None) == 55
    assert anchor_frame(np.array([3, 5, 7, 9]), None) == 5
    assert anchor_frame(np.arange(40, 71), 41) == 41


@pytest.mark.parametrize("anchor", [-1, 39, 71, 42])
def test_anchor_out_of_range(anchor):
    ids = np.array([40, 41, 43, 70])
    with pytest.raises(ConfigError, match=rf"anchor = {anchor} is not a frame of the clip \(40\.\.70\)"):
        anchor_frame(ids, anchor)


def test_hyper_refuses_wherever_it_is_made():
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="lambda_sharp"):
            tiny_hyper(lambda_sharp=wrong)
    with pytest.raises(ConfigError, match="phase2"):
        tiny_hyper(phase2=PhaseHyper(lr=-1e-3, epochs=1))


def test_writable_makes_the_folder_and_leaves_nothing(tmp_path):
    writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"can't write to .*output\.root"):
        writable(tmp_path / "file" / "outputs")
