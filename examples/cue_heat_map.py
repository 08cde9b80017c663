"""Where the visual cue of a trained model is strong on a photo.

    python examples/cue_heat_map.py photo.jpg heat_map.png       # after `make repro`
    python examples/cue_heat_map.py photo.jpg heat_map.png models/base models/finetune

It is the size of the raw cue, before the LayerNorm that levels it: where the sampled features are large, not what
changes the answer. The report draws the latter beside it, by covering the photo cell by cell.
"""

import sys
from pathlib import Path

from PIL import Image

from components.evaluation.inference.assistant import load_assistant
from components.evaluation.insight.heat_map import cue_strength, draw, mean_colour


def main(photo: str, out: str, base: str = "models/base", parts: str = "models/finetune") -> None:
    assistant = load_assistant(Path(base), Path(parts))
    picture = Image.open(photo).convert("RGB")
    strength = cue_strength(assistant, picture)
    if strength is None:
        sys.exit(f"{parts} has no Visual Cue Enhancement")
    draw(picture, strength, assistant.image, mean_colour(assistant)).save(out)
    print(f"{out}: {strength.shape[0]} x {strength.shape[1]} patches, cue {strength.min():.2f} to {strength.max():.2f}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
