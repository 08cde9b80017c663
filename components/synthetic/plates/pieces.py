"""One drawing for each ingredient: (pen, middle x, middle y, radius, angle, random source)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from components.synthetic.plates.pen import Pen, shade


def _steak(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    outline = [(1.0, 0.1), (0.6, 0.75), (-0.3, 0.7), (-1.0, 0.35), (-0.9, -0.45), (-0.1, -0.6), (0.7, -0.75)]
    pen.shape(x, y, angle, [(a * r, b * r) for a, b in outline], (236, 200, 180))
    pen.shape(x, y, angle, [(0.82 * a * r, 0.78 * b * r) for a, b in outline], shade((126, 48, 40), rng))


def _carrot(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.shape(x, y, angle, [(-r, -0.5 * r), (-r, 0.5 * r), (1.2 * r, 0)], shade((244, 128, 24), rng))
    pen.shape(x, y, angle, [(-0.8 * r, 0), (-1.5 * r, -0.45 * r), (-1.5 * r, 0.45 * r)], (52, 150, 44))


def _onion(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.disc(x, y, r, (240, 222, 240))
    pen.ring(x, y, r, shade((140, 44, 150), rng), 0.9)
    pen.ring(x, y, 0.5 * r, shade((160, 70, 170), rng), 0.7)


def _pepper(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    colour = shade((40, 168, 52), rng)
    for turn in (0.0, 2.1, 4.2):
        pen.spot(x, y, angle + turn, 0.45 * r, 0, 0.62 * r, colour)
    pen.disc(x, y, 0.4 * r, (206, 236, 160))


def _mushroom(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.shape(x, y, angle, [(-0.3 * r, 0), (0.3 * r, 0), (0.36 * r, r), (-0.36 * r, r)], (244, 234, 214))
    cap = [(r * math.cos(math.pi + math.pi * s / 8), 0.9 * r * math.sin(math.pi + math.pi * s / 8)) for s in range(9)]
    pen.shape(x, y, angle, [(a, b + 0.15 * r) for a, b in cap], shade((126, 96, 110), rng))


def _shrimp(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    colour = shade((250, 140, 140), rng)
    for step in range(7):
        turn = angle + 0.65 * step
        thick = 0.46 - 0.04 * step
        pen.disc(x + 0.65 * r * math.cos(turn), y + 0.65 * r * math.sin(turn), thick * r, colour)


def _tomato(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.disc(x, y, r, shade((222, 34, 30), rng))
    for step in range(5):
        turn = angle + step * 2 * math.pi / 5
        pen.oval(x + 0.2 * r * math.cos(turn), y + 0.2 * r * math.sin(turn), turn, 0.3 * r, 0.1 * r, (40, 120, 40))


def _egg(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.oval(x, y, angle, r, 0.8 * r, (252, 252, 250))
    pen.disc(x, y, 0.48 * r, shade((250, 196, 30), rng))


def _olive(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.oval(x, y, angle, 1.1 * r, 0.85 * r, shade((104, 116, 30), rng))
    pen.disc(x, y, 0.38 * r, (214, 40, 36))


def _cheese(pen: Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.shape(x, y, angle, [(-0.8 * r, -r), (-0.8 * r, r), (1.1 * r, 0)], shade((252, 214, 66), rng))
    for dx, dy, hole in ((-0.4, -0.4, 0.2), (-0.35, 0.35, 0.24), (0.25, 0.0, 0.18)):
        pen.spot(x, y, angle, dx * r, dy * r, hole * r, (206, 150, 24))


PIECES: dict[str, Callable[[Pen, float, float, float, float, random.Random], None]] = {
    "steak": _steak,
    "carrot": _carrot,
    "onion": _onion,
    "pepper": _pepper,
    "mushroom": _mushroom,
    "shrimp": _shrimp,
    "tomato": _tomato,
    "egg": _egg,
    "olive": _olive,
    "cheese": _cheese,
}

RADIUS = {
    "steak": 5.6,
    "carrot": 4.6,
    "onion": 4.4,
    "pepper": 4.6,
    "mushroom": 4.7,
    "shrimp": 4.0,
    "tomato": 4.6,
    "egg": 4.6,
    "olive": 3.3,
    "cheese": 4.4,
}
