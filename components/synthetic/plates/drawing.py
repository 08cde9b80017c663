"""Dishes as small pictures: the vessel shows the style, each piece its ingredient.

Everything is drawn three times as large in units of 1/48 of the side and then reduced, which smooths the edges.
Place, angle, size and colour vary, and so does the table, so that no pixel alone gives a dish away.
"""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

from PIL import Image

from components.synthetic.plates.dish import Dish
from components.synthetic.plates.pen import UNITS, Colour, Pen, shade
from components.synthetic.plates.pieces import PIECES, RADIUS
from components.synthetic.plates.vessels import VESSELS, draw_table, draw_traces

_OVERSAMPLE = 3
_TABLES: tuple[Colour, ...] = ((196, 178, 150), (150, 170, 190), (205, 205, 200), (170, 190, 160), (190, 160, 170))


@dataclass(frozen=True)
class Placed:
    """One piece on the plate: middle and radius in units of 1/48 of the side."""

    name: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Photo:
    image: Image.Image
    pieces: tuple[Placed, ...]
    middle: tuple[float, float]
    reach: float  # radius of the vessel


def photograph(dish: Dish, size: int, rng: random.Random) -> Photo:
    """Draw a dish. Another `rng` gives another photo of the same dish."""
    table = shade(rng.choice(_TABLES), rng, 14)
    canvas = Image.new("RGB", (size * _OVERSAMPLE, size * _OVERSAMPLE), table)
    pen = Pen(canvas)
    draw_table(pen, table, rng)
    reach = rng.uniform(19.0, 21.0)
    x, y = (UNITS / 2 + rng.uniform(-2.5, 2.5) for _ in range(2))
    VESSELS[dish.cooking.vessel](pen, x, y, reach, rng)
    pieces = _place(dish, x, y, reach - 4.5, rng)
    for piece in pieces:
        PIECES[piece.name](pen, piece.x, piece.y, piece.radius, rng.uniform(0, 2 * math.pi), rng)
    draw_traces(pen, dish.style, x, y, reach, rng)
    light = rng.uniform(0.88, 1.1)
    small = canvas.reduce(_OVERSAMPLE).point([min(255, round(value * light)) for value in range(256)] * 3)
    return Photo(small, pieces, (x, y), reach)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _place(dish: Dish, x: float, y: float, reach: float, rng: random.Random) -> tuple[Placed, ...]:
    """Of some random places for each piece, the one that overlaps the earlier pieces least."""
    wanted = [name for name, amount in dish.amounts for _ in range(amount)]
    wanted.sort(key=lambda name: -RADIUS[name])
    placed: list[Placed] = []
    for name in wanted:
        radius = RADIUS[name] * rng.uniform(0.9, 1.1)
        best, best_room = None, -math.inf
        for _ in range(24):
            angle, far = rng.uniform(0, 2 * math.pi), reach * math.sqrt(rng.random())
            px, py = x + far * math.cos(angle), y + far * math.sin(angle)
            room = min((math.dist((px, py), (o.x, o.y)) - o.radius - radius for o in placed), default=0.0)
            if room > best_room:
                best, best_room = Placed(name, px, py, radius), room
            if room >= 0:
                break
        if best is not None:
            placed.append(best)
    rng.shuffle(placed)
    return tuple(placed)
