"""CLIP behind one small interface: pictures and texts to features of unit length.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021;
the network, its tokens and its prompts are those of the package open-clip-torch (the extra "clip").
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tempcons.check import WeightsError, check_pictures

PACKAGE = "open_clip"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HEAD_WIDTH = 64  # of OpenAI's networks, in which the number of heads is not stored


def require_package() -> None:
    """Raise WeightsError unless the package that CLIP comes from is installed."""
    if importlib.util.find_spec(PACKAGE) is None:
        raise WeightsError("edit", "an edit by text needs open-clip-torch", "pip install 'tempcons[clip]'")


class TextImageModel(nn.Module):
    """A text-image network and what it reads.

    Args:
        network: has ``encode_image`` ((B, 3, S, S) to (B, C)) and ``encode_text`` ((N, K) to (N, C)).
        tokens: texts to (N, K) numbers.
        prompts: sentences that a text is put in; its features are their mean.
        size: side S of the pictures the network reads.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        tokens: Callable[[list[str]], Tensor],
        prompts: Sequence[Callable[[str], str]],
        size: int,
    ) -> None:
        super().__init__()
        self.network: Any = network
        self.tokens, self.prompts, self.size = tokens, prompts, size
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def pictures(self, pictures: Tensor) -> Tensor:
        """(B, C) features of unit length of pictures (B, 3, H, W) in [-1, 1]; gradients pass."""
        check_pictures(pictures, "CLIP's pictures")
        shown = F.interpolate(
            (pictures + 1) / 2, (self.size, self.size), mode="bicubic", align_corners=False, antialias=True
        )
        return F.normalize(self.network.encode_image((shown - self.mean) / self.std), dim=1)

    @torch.no_grad()
    def prompted(self, text: str) -> Tensor:
        """(N, C) features of unit length of a text in each of the prompts."""
        tokens = self.tokens([prompt(text) for prompt in self.prompts]).to(self.mean.device)
        return F.normalize(self.network.encode_text(tokens), dim=1)

    def text(self, text: str) -> Tensor:
        """(C,) mean feature of a text, of unit length."""
        return F.normalize(self.prompted(text).mean(0), dim=0)

    def direction(self, source: str, target: str) -> Tensor:
        """(C,) change from one text to another, of unit length.

        Raises:
            WeightsError: texts that are the same to the network.

        Source: Gal et al., StyleGAN-NADA, SIGGRAPH 2022.
        """
        change = (self.prompted(target) - self.prompted(source)).mean(0)
        if change.norm() < 1e-6:
            raise WeightsError(
                "edit", f"CLIP sees no change from {source!r} to {target!r}", "take other texts"
            )
        return F.normalize(change, dim=0)


def blank_clip(state: Mapping[str, Tensor]) -> nn.Module:
    """A CLIP network with a vision transformer, of the sizes that ``state`` has.

    Raises:
        WeightsError: the package is missing, or a network of another make.
    """
    require_package()
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    try:
        vision_width, _, patch, _ = state["visual.conv1.weight"].shape
        vocabulary, width = state["token_embedding.weight"].shape
        grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
        vision = CLIPVisionCfg(_layers(state, "visual."), vision_width, HEAD_WIDTH, patch_size=patch)
        vision.image_size = grid * patch
        text = CLIPTextCfg(len(state["positional_embedding"]), vocabulary)
        text.width, text.heads, text.layers = width, width // HEAD_WIDTH, _layers(state, "")
        return CLIP(state["text_projection"].shape[1], vision, text, quick_gelu=True)
    except (KeyError, ValueError, AssertionError, ZeroDivisionError, IndexError) as error:
        raise WeightsError("weights", f"no CLIP with a vision transformer ({error})") from error


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    pattern = re.escape(prefix) + r"transformer\.resblocks\.(\d+)\."
    return len({m[1] for m in (re.match(pattern, key) for key in state) if m})


def text_image_model(network: nn.Module, size: int) -> TextImageModel:
    """CLIP with its own tokens, and the prompts made for ImageNet's classes, as StyleGAN-NADA takes them."""
    import open_clip

    return TextImageModel(network, open_clip.SimpleTokenizer(), open_clip.OPENAI_IMAGENET_TEMPLATES, size)
