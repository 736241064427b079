"""Face parsing: which pixel of a face crop is skin, brow, hair, background, ...

BiSeNet on a ResNet-18, with the names of the released checkpoint for CelebAMask-HQ's 19 classes.

Source: Yu et al. 2018, "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 19
NOT_FACE = (0, 16, 18)  # background, cloth, hat; hair and neck belong to the head (Tzaban et al. 2022)
SIZE = 512
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()


class AttentionRefinement(nn.Module):
    """Features weighted by what the whole picture shows."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, outputs)
        self.conv_atten = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(x)
        whole = F.adaptive_avg_pool2d(features, 1)
        return features * self.bn_atten(self.conv_atten(whole)).sigmoid()


class ContextPath(nn.Module):
    """Features at 1/8 of the size: the backbone's own, and those that deeper stages refined."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet18  # torchvision takes seconds to load

        self.resnet = resnet18(weights=None)
        self.resnet.fc = nn.Identity()
        self.arm16, self.arm32 = AttentionRefinement(256, 128), AttentionRefinement(512, 128)
        self.conv_head32, self.conv_head16 = ConvNorm(128, 128), ConvNorm(128, 128)
        self.conv_avg = ConvNorm(512, 128, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        net = self.resnet
        x = net.layer1(net.maxpool(net.bn1(net.conv1(x)).relu()))
        eighth = net.layer2(x)
        sixteenth = net.layer3(eighth)
        last = net.layer4(sixteenth)
        # The mean is one pixel: adding it to all is enlarging it.
        deep = self.arm32(last) + self.conv_avg(F.adaptive_avg_pool2d(last, 1))
        deep = self.conv_head32(F.interpolate(deep, sixteenth.shape[-2:], mode="nearest"))
        refined = self.arm16(sixteenth) + deep
        return eighth, self.conv_head16(F.interpolate(refined, eighth.shape[-2:], mode="nearest"))


class FeatureFusion(nn.Module):
    """Both features of the context path as one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convblk = ConvNorm(channels, channels, 1)
        self.conv1 = nn.Conv2d(channels, channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(channels // 4, channels, 1, bias=False)

    def forward(self, near: Tensor, context: Tensor) -> Tensor:
        features = self.convblk(torch.cat([near, context], dim=1))
        whole = F.adaptive_avg_pool2d(features, 1)
        return features + features * self.conv2(self.conv1(whole).relu()).sigmoid()


class ClassScores(nn.Module):
    """Scores of all classes."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, hidden)
        self.conv_out = nn.Conv2d(hidden, CLASSES, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class FaceParser(nn.Module):
    """Classes of a face crop's pixels. ``conv_out16`` and ``conv_out32`` served training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cp = ContextPath()
        self.ffm = FeatureFusion(256)
        self.conv_out = ClassScores(256, 256)
        self.conv_out16, self.conv_out32 = ClassScores(128, 64), ClassScores(128, 64)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, CLASSES, H, W) scores of pictures (B, 3, H, W) in [-1, 1], H and W multiples of 32."""
        mean, deviation = (pictures.new_tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
        scores = self.conv_out(self.ffm(*self.cp(((pictures + 1) / 2 - mean) / deviation)))
        return F.interpolate(scores, pictures.shape[-2:], mode="bilinear", align_corners=True)

    @torch.no_grad()
    def face(self, pictures: Tensor) -> Tensor:
        """(B, 1, S, S) bool of pictures (B, 3, S, S) in [-1, 1]: what isn't background, cloth or hat."""
        asked = F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        classes = self(asked).argmax(1, keepdim=True)
        outside = torch.isin(classes, torch.tensor(NOT_FACE, device=classes.device))
        return F.interpolate((~outside).float(), pictures.shape[-2:], mode="nearest") > 0.5
