"""Draw frames of a finished run as one picture: a row per video, a column per frame.

python experiments/demo_picture.py outputs/latest --out docs/demo.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

LABEL_HEIGHT = 14


def read(path: Path) -> np.ndarray:
    """All frames of a video, (T, H, W, 3) uint8."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def sheet(videos: dict[str, np.ndarray], columns: int) -> Image.Image:
    """Evenly spaced frames of every video, the name above its row."""
    rows = []
    for frames in videos.values():
        at = np.linspace(0, len(frames) - 1, columns).round().astype(int)
        row = np.concatenate(list(frames[at]), axis=1)
        rows.append(np.pad(row, ((LABEL_HEIGHT, 0), (0, 0), (0, 0)), constant_values=255))
    picture = Image.fromarray(np.concatenate(rows))
    draw = ImageDraw.Draw(picture)
    for index, name in enumerate(videos):
        draw.text((2, index * rows[0].shape[0] + 1), name, fill=(0, 0, 0))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--videos", nargs="+", default=["input", "direct", "phase2"])
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    missing = [name for name in args.videos if not (args.run / f"{name}.mp4").is_file()]
    if missing:
        raise SystemExit(f"picture: {args.run} has no {missing[0]}.mp4: give the folder of a finished run")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sheet({name: read(args.run / f"{name}.mp4") for name in args.videos}, args.columns).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()
