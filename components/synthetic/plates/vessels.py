"""What lies under and over the food: table, vessel and traces of cooking. Together they show the style."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from components.synthetic.plates.pen import UNITS, Colour, Pen, shade


def draw_table(pen: Pen, colour: Colour, rng: random.Random) -> None:
    dark = shade((colour[0] - 18, colour[1] - 18, colour[2] - 18), rng, 6)
    pattern, gap = rng.choice(("plain", "stripes", "checks")), rng.randint(5, 9)
    for step in range(0, 2 * UNITS, gap):
        if pattern != "plain":
            pen.line([(step, 0), (step - UNITS / 3, UNITS)], dark, 1.5)
        if pattern == "checks":
            pen.line([(0, step), (UNITS, step)], dark, 1.5)


def _pan(pen: Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    angle = rng.uniform(0, 2 * math.pi)
    pen.shape(x, y, angle, [(0, -2.5), (34, -2.5), (34, 2.5), (0, 2.5)], shade((30, 30, 34), rng))
    pen.disc(x, y, reach, shade((52, 52, 58), rng), (22, 22, 26), 2)
    for _ in range(10):  # drops of oil
        turn, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 0.95) * reach
        pen.disc(x + far * math.cos(turn), y + far * math.sin(turn), 0.9, (214, 176, 60))


def _grill(pen: Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    pen.shape(x, y, 0, [(-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach)], shade((200, 84, 40), rng))
    bar = shade((70, 70, 76), rng)
    for step in range(-4, 5):
        across = step * reach / 4
        pen.line([(x + across, y - reach), (x + across, y + reach)], bar, 2)


def _tray(pen: Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    side = [(-reach, -0.9 * reach), (reach, -0.9 * reach), (reach, 0.9 * reach), (-reach, 0.9 * reach)]
    pen.shape(x, y, 0, side, shade((36, 84, 150), rng))
    pen.shape(x, y, 0, [(0.86 * a, 0.84 * b) for a, b in side], shade((226, 206, 168), rng))


def _basket(pen: Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    pen.disc(x, y, reach, shade((214, 180, 112), rng), (132, 92, 40), 2.5)
    for step in range(-4, 5):
        across = step * reach / 4.6
        half = math.sqrt(max(0.0, (reach - 2) ** 2 - across**2))
        pen.line([(x - half, y + across), (x + half, y + across)], (184, 146, 84), 0.8)


def _bowl(pen: Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    pen.disc(x, y, reach, shade((238, 240, 242), rng, 6), (150, 156, 166), 1)
    for step in range(8):
        turn = 2 * math.pi * step / 8 + rng.uniform(-0.2, 0.2)
        pen.oval(x + (reach - 1.5) * math.cos(turn), y + (reach - 1.5) * math.sin(turn), turn, 3, 1.6, (118, 196, 72))


def draw_traces(pen: Pen, style: str, x: float, y: float, reach: float, rng: random.Random) -> None:
    """What cooking leaves above the food: char marks of the grill, wisps of steam, crumbs of the oven."""
    if style == "grilled":
        for step in (-0.5, 0.0, 0.5):
            shift = step * reach + rng.uniform(-1.5, 1.5)
            pen.line([(x - 0.8 * reach, y + shift - 3), (x + 0.8 * reach, y + shift + 3)], (36, 26, 22), 0.7)
    if style == "steamed":
        for step in (-0.45, 0.1, 0.55):
            start = x + step * reach + rng.uniform(-2, 2)
            curve = [(start + 1.6 * math.sin(t / 2.0), y + reach - 4 - 2.6 * t) for t in range(13)]
            pen.line(curve, (246, 246, 250), 0.9)
    if style == "baked":
        for _ in range(14):
            pen.disc(x + rng.uniform(-0.8, 0.8) * reach, y + rng.uniform(-0.7, 0.7) * reach, 0.7, (214, 160, 70))


VESSELS: dict[str, Callable[[Pen, float, float, float, random.Random], None]] = {
    "pan": _pan,
    "grill": _grill,
    "tray": _tray,
    "basket": _basket,
    "bowl": _bowl,
}
