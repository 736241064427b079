"""Losses that pull pictures towards a text, in the feature space of a text-image network.

Source: Gal et al., "StyleGAN-NADA: CLIP-Guided Domain Adaptation of Image Generators", SIGGRAPH 2022.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# Below this length a change of features has no direction yet; without a floor the first steps, in which
# both generators still draw alike, would dwarf all later ones in Adam's memory.
SHORTEST = 0.1


def global_loss(features: Tensor, target: Tensor) -> Tensor:
    """1 - cosine between pictures and a text, the mean over pictures.

    Args:
        features: (B, C) of the pictures.
        target: (C,) of the text.

    Source: Gal 2022, the global loss.
    """
    return 1 - F.cosine_similarity(features, target[None], dim=1).mean()


def directional_loss(before: Tensor, after: Tensor, direction: Tensor) -> Tensor:
    """1 - cosine between the change of pictures and the change of texts, the mean over pictures.

    Args:
        before: (B, C) features of the frozen generator's pictures, of unit length.
        after: (B, C) of the trained one's, same codes.
        direction: (C,) change of the text, of unit length.

    Source: Gal 2022, the directional loss; changes shorter than ``SHORTEST`` count as less than aligned.
    """
    change = after - before
    length = change.norm(dim=1).clamp_min(SHORTEST)
    return 1 - ((change @ direction) / length).mean()
