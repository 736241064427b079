"""Picture pairs whose flow is known: faces and textures in layers that move, bend and hide each other.

A layer is a texture T, a mask M in the coordinates of frame b, an affine placement G, and a flow F on the
grid of frame a. Frame b shows T(G(p)), frame a T(G(p + F(p))): the flow F_{a->b} is exact without inverting
anything, and either frame is one resampling of the texture, so that neither is the softer one. Where a
layer of frame a is hidden by a higher one in frame b is known from the masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tempcons.geometry.warp import inside, pixel_grid, warp

NOISE_OCTAVES = (4, 8, 16, 32, 64)
BEND_NODES = (3, 5, 9)
# Steepest bend (displacement per pixel, one standard deviation) that does not fold a layer.
STEEPEST_BEND = 0.12


@dataclass(frozen=True)
class Motion:
    """Range of motion.

    Attributes:
        smallest, largest: length of a layer's shift in px, its logarithm evenly distributed.
        still: share of layers that don't move at all.
        occluders: layers above the face, at most.
        photometric: strength of noise, blur and changes of brightness; 0 for none.
    """

    smallest: float = 0.2
    largest: float = 14.0
    still: float = 0.1
    occluders: int = 2
    photometric: float = 1.0


@dataclass(frozen=True)
class MotionPair:
    """Two frames and the truth about them.

    Attributes:
        a, b: (B, 3, S, S) in [-1, 1].
        flow: (B, 2, S, S) F_{a->b} in px.
        visible: (B, 1, S, S) 1 where a's point is inside b and not hidden there.
    """

    a: Tensor
    b: Tensor
    flow: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Layer:
    """A layer as both frames show it; ``*_on_a`` moved by ``flow``. Shapes (B, C, S, S)."""

    picture_on_a: Tensor
    picture_on_b: Tensor
    mask_on_a: Tensor
    mask_on_b: Tensor
    flow: Tensor


class Chance:
    """Random numbers of one source, in the shapes that a batch of layers needs."""

    def __init__(self, random: torch.Generator, batch: int) -> None:
        self.random, self.batch = random, batch

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) evenly distributed numbers."""
        numbers = torch.rand(self.batch, *shape, generator=self.random, device=self.random.device)
        return low + (high - low) * numbers

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) normally distributed numbers."""
        return torch.randn(self.batch, *shape, generator=self.random, device=self.random.device)

    def whole(self, below: int) -> int:
        """One number for the whole batch."""
        return int(torch.randint(below, (), generator=self.random, device=self.random.device))


def enlarged(coarse: Tensor, size: int) -> Tensor:
    """Bicubic enlargement of a coarse grid to (B, C, size, size), nodes in the corners."""
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def noise_texture(chance: Chance, size: int) -> Tensor:
    """(B, 3, size, size) coloured noise of several octaves with random weights."""
    texture = torch.zeros(chance.batch, 3, size, size, device=chance.random.device)
    for octave in NOISE_OCTAVES:
        strength = chance.uniform(0, 1, 1, 1, 1).square()
        coarse = 0.8 * chance.normal(1, octave, octave) + 0.4 * chance.normal(3, octave, octave)
        texture = texture + strength * enlarged(coarse, size)
    return torch.tanh(texture + 0.4 * chance.normal(3, 1, 1))


def blob(chance: Chance, size: int) -> Tensor:
    """(B, 1, size, size) mask of a random shape about a random centre, with an edge of about a pixel."""
    grid = pixel_grid(size, size, chance.normal(1)) / (size - 1)
    centre = chance.uniform(0, 1, 2, 1, 1)
    radius = chance.uniform(0.08, 0.3, 1, 1, 1)
    ragged = 1 + 0.35 * enlarged(chance.normal(1, 6, 6), size)
    distance = (grid - centre).square().sum(1, keepdim=True).sqrt()
    return torch.sigmoid((radius * ragged - distance) * size)


def head(chance: Chance, size: int) -> Tensor:
    """(B, 1, size, size) ellipse where a face is, with an edge of about a pixel."""
    grid = pixel_grid(size, size, chance.normal(1)) / (size - 1)
    offset = grid - (0.5 + 0.03 * chance.normal(2, 1, 1))
    radii = chance.uniform(0.35, 0.6, 2, 1, 1)
    distance = (offset / radii).square().sum(1, keepdim=True).sqrt()
    return torch.sigmoid((1 - distance) * size * 0.4)


def linear_part(angle: Tensor, zoom: Tensor) -> Tensor:
    """(B, 2, 2) rotation times zoom of (B,) angles and factors."""
    c, s = angle.cos() * zoom, angle.sin() * zoom
    return torch.stack([torch.stack([c, -s], 1), torch.stack([s, c], 1)], 1)


def centred(size: int, like: Tensor) -> Tensor:
    """(1, 2, size, size) pixel positions from the middle."""
    return pixel_grid(size, size, like) - (size - 1) / 2


def random_flow(chance: Chance, size: int, motion: Motion) -> Tensor:
    """(B, 2, size, size): a shift, with a turn and a zoom in proportion, and a smooth bend."""
    low, high = math.log(motion.smallest), math.log(motion.largest)
    length = torch.exp(chance.uniform(low, high))
    length = length * (chance.uniform(0, 1) >= motion.still)
    direction = chance.uniform(0, 2 * math.pi)
    shift = torch.stack([direction.cos(), direction.sin()], 1) * length[:, None]
    relative = length / size
    turn = linear_part(chance.normal() * relative, torch.exp(0.7 * chance.normal() * relative))
    grid = centred(size, shift).expand(chance.batch, -1, -1, -1)
    turned = torch.einsum("bij,bjhw->bihw", turn - torch.eye(2, device=turn.device), grid)
    nodes = BEND_NODES[chance.whole(len(BEND_NODES))]
    highest = STEEPEST_BEND * (size - 1) / (nodes - 1)
    amplitude = torch.minimum(0.4 * length, torch.full_like(length, highest)) * chance.uniform(0, 1)
    bend = enlarged(chance.normal(2, nodes, nodes), size)
    return shift[:, :, None, None] + turned + amplitude.view(-1, 1, 1, 1) * bend


def sample(texture: Tensor, position: Tensor) -> Tensor:
    """Texture values at positions (B, 2, H, W) in px; mirrored beyond its border."""
    side = texture.new_tensor([texture.shape[-1] - 1, texture.shape[-2] - 1]).view(1, 2, 1, 1)
    grid = (2 * position / side - 1).permute(0, 2, 3, 1)
    return F.grid_sample(texture, grid, padding_mode="reflection", align_corners=True)


def place_layer(
    chance: Chance, texture: Tensor, mask: Tensor, flow: Tensor, zoom: tuple[float, float]
) -> Layer:
    """A texture, placed at random (enlarged ``zoom`` times) and moved."""
    size = flow.shape[-1]
    middle = (texture.shape[-1] - 1) / 2
    factor = chance.uniform(*zoom) * size / texture.shape[-1]
    placement = linear_part(0.15 * chance.normal(), 1 / factor)
    shift = middle + 0.04 * size * chance.normal(2, 1, 1)
    grid = centred(size, flow)

    def placed(position: Tensor) -> Tensor:
        expanded = position.expand(chance.batch, -1, -1, -1)
        return sample(texture, torch.einsum("bij,bjhw->bihw", placement, expanded) + shift)

    moved_mask, _ = warp(mask, flow)
    return Layer(placed(grid + flow), placed(grid), moved_mask, mask, flow)


def composed(layers: list[Layer]) -> MotionPair:
    """Layers from the lowest to the highest, put together in both frames."""
    base = layers[0]
    a, b, flow = base.picture_on_a, base.picture_on_b, base.flow
    for layer in layers[1:]:
        a = torch.lerp(a, layer.picture_on_a, layer.mask_on_a)
        b = torch.lerp(b, layer.picture_on_b, layer.mask_on_b)
        flow = torch.where(layer.mask_on_a > 0.5, layer.flow, flow)
    return MotionPair(a, b, flow, visibility(layers, flow))


def visibility(layers: list[Layer], flow: Tensor) -> Tensor:
    """(B, 1, S, S) 1 where what frame a shows is inside frame b and no higher layer hides it there."""
    visible = torch.ones_like(flow[:, :1])
    for at, layer in enumerate(layers):
        if at:
            visible = torch.where(layer.mask_on_a > 0.5, 1.0, visible)
        uncovered = torch.ones_like(visible)
        for higher in layers[at + 1 :]:
            uncovered = uncovered * (higher.mask_on_b <= 0.5)
        seen = (warp(uncovered, layer.flow)[0] > 0.5).to(flow.dtype)
        shown = layer.mask_on_a > 0.5 if at else torch.ones_like(visible, dtype=torch.bool)
        visible = torch.where(shown, seen, visible)
    return visible * inside(flow)


def photometric(chance: Chance, pair: MotionPair, strength: float) -> MotionPair:
    """The camera's share: tone of both frames, a little difference between them, blur, noise."""
    if strength == 0:
        return pair
    tint, contrast = 0.08 * chance.normal(3, 1, 1), torch.exp(0.15 * chance.normal(1, 1, 1))
    gray = (chance.uniform(0, 1, 1, 1, 1) < 0.3).float()
    grain = chance.uniform(0, 0.03, 1, 1, 1) * strength
    blurred = chance.uniform(-0.8, 0.9, 1, 1, 1).clamp(min=0)
    frames = []
    for picture in (pair.a, pair.b):
        x = torch.lerp(picture, picture.mean(1, keepdim=True).expand_as(picture), gray)
        x = torch.lerp(x, F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1), blurred)
        own = torch.exp(0.03 * strength * chance.normal(1, 1, 1))
        x = (
            x * contrast * own + tint * strength + 0.02 * strength * chance.normal(1, 1, 1)
        ) + grain * chance.normal(3, *x.shape[-2:])
        frames.append(x.clamp(-1, 1))
    a, b = frames
    return MotionPair(a, b, pair.flow, pair.visible)


def make_pairs(faces: Tensor, motion: Motion, random: torch.Generator) -> MotionPair:
    """A pair for each two of the faces given.

    Args:
        faces: (2B, 3, S, S) in [-1, 1]: B faces in front, B pictures for backgrounds and occluders.
        motion: range of motion.
        random: source of chance, on the device of the faces.
    """
    front, others = faces.chunk(2)
    size = faces.shape[-1]
    chance = Chance(random, len(front))
    everywhere = torch.ones_like(front[:, :1])
    noise = noise_texture(chance, size)
    behind = torch.where(chance.uniform(0, 1, 1, 1, 1) < 0.5, noise, others)
    layers = [place_layer(chance, behind, everywhere, random_flow(chance, size, motion), (1.0, 1.8))]
    # One in four faces fills the picture, as in the crops that the phases work on.
    full = (chance.uniform(0, 1, 1, 1, 1) < 0.25).float()
    mask = torch.maximum(head(chance, size), full)
    layers.append(place_layer(chance, front, mask, random_flow(chance, size, motion), (0.9, 1.3)))
    for _ in range(chance.whole(motion.occluders + 1)):
        texture = torch.where(
            chance.uniform(0, 1, 1, 1, 1) < 0.6, noise_texture(chance, size), others.roll(1, 0)
        )
        present = (chance.uniform(0, 1, 1, 1, 1) < 0.7).float()
        shape = blob(chance, size) * present
        layers.append(place_layer(chance, texture, shape, random_flow(chance, size, motion), (0.8, 1.6)))
    return photometric(chance, composed(layers), motion.photometric)


def warp_known(frames: Tensor, motion: Motion, random: torch.Generator) -> MotionPair:
    """Real frames as the one and only layer of both pictures: the frame, and the frame bent and moved."""
    chance = Chance(random, len(frames))
    flow = random_flow(chance, frames.shape[-1], motion)
    layer = place_layer(chance, frames, torch.ones_like(frames[:, :1]), flow, (1.0, 1.25))
    pair = composed([layer])
    a, b = [(x + 0.01 * chance.normal(*x.shape[1:])).clamp(-1, 1) for x in (pair.a, pair.b)]
    return MotionPair(a, b, pair.flow, pair.visible)
