"""Dishes as small pictures: the vessel shows the style, each piece its ingredient.

Everything is drawn three times as large in units of 1/48 of the side and then reduced, which smooths the edges.
Place, angle, size and colour vary, and so does the table, so that no pixel alone gives a dish away.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from components.data.plates.dish import Dish

Colour = tuple[int, int, int]
UNITS = 48  # the side of a picture in drawing units
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


class _Pen:
    """Draws turned shapes around a middle, in units of 1/48 of the side."""

    def __init__(self, canvas: Image.Image):
        self.draw = ImageDraw.Draw(canvas)
        self.scale = canvas.width / UNITS

    def spot(self, x: float, y: float, angle: float, dx: float, dy: float, radius: float, fill: Colour) -> None:
        """A disc at (dx, dy) from the middle, turned with it."""
        px, py = self.at(x, y, angle, dx, dy)
        self.disc(px / self.scale, py / self.scale, radius, fill)

    def at(self, x: float, y: float, angle: float, dx: float, dy: float) -> tuple[float, float]:
        cos, sin = math.cos(angle), math.sin(angle)
        return (x + dx * cos - dy * sin) * self.scale, (y + dx * sin + dy * cos) * self.scale

    def box(self, x: float, y: float, radius: float) -> list[float]:
        return [value * self.scale for value in (x - radius, y - radius, x + radius, y + radius)]

    def disc(self, x: float, y: float, radius: float, fill: Colour, outline: Colour | None = None, width: float = 1):
        self.draw.ellipse(self.box(x, y, radius), fill=fill, outline=outline, width=round(width * self.scale))

    def ring(self, x: float, y: float, radius: float, colour: Colour, width: float):
        self.draw.ellipse(self.box(x, y, radius), outline=colour, width=round(width * self.scale))

    def shape(self, x: float, y: float, angle: float, corners: list[tuple[float, float]], fill: Colour):
        self.draw.polygon([self.at(x, y, angle, *corner) for corner in corners], fill=fill)

    def oval(self, x: float, y: float, angle: float, long: float, short: float, fill: Colour):
        turns = [2 * math.pi * step / 16 for step in range(16)]
        self.shape(x, y, angle, [(long * math.cos(t), short * math.sin(t)) for t in turns], fill)

    def line(self, points: list[tuple[float, float]], colour: Colour, width: float):
        scaled = [(px * self.scale, py * self.scale) for px, py in points]
        self.draw.line(scaled, fill=colour, width=round(width * self.scale), joint="curve")


def photograph(dish: Dish, size: int, rng: random.Random) -> Photo:
    """Draw a dish. Another `rng` gives another photo of the same dish."""
    table = _shade(rng.choice(_TABLES), rng, 14)
    canvas = Image.new("RGB", (size * _OVERSAMPLE, size * _OVERSAMPLE), table)
    pen = _Pen(canvas)
    _table(pen, table, rng)
    reach = rng.uniform(19.0, 21.0)
    x, y = (UNITS / 2 + rng.uniform(-2.5, 2.5) for _ in range(2))
    _VESSELS[dish.cooking.vessel](pen, x, y, reach, rng)
    pieces = _place(dish, x, y, reach - 4.5, rng)
    for piece in pieces:
        _PIECES[piece.name](pen, piece.x, piece.y, piece.radius, rng.uniform(0, 2 * math.pi), rng)
    _traces(pen, dish.style, x, y, reach, rng)
    light = rng.uniform(0.88, 1.1)
    small = canvas.reduce(_OVERSAMPLE).point([min(255, round(value * light)) for value in range(256)] * 3)
    return Photo(small, pieces, (x, y), reach)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _shade(colour: Colour, rng: random.Random, by: int = 10) -> Colour:
    shift = rng.randint(-by, by)
    red, green, blue = (max(0, min(255, value + shift + rng.randint(-by // 2, by // 2))) for value in colour)
    return red, green, blue


def _place(dish: Dish, x: float, y: float, reach: float, rng: random.Random) -> tuple[Placed, ...]:
    """Of some random places for each piece, the one that overlaps the earlier pieces least."""
    wanted = [name for name, amount in dish.amounts for _ in range(amount)]
    wanted.sort(key=lambda name: -_RADIUS[name])
    placed: list[Placed] = []
    for name in wanted:
        radius = _RADIUS[name] * rng.uniform(0.9, 1.1)
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


# --- tables and vessels ---


def _table(pen: _Pen, colour: Colour, rng: random.Random) -> None:
    dark = _shade((colour[0] - 18, colour[1] - 18, colour[2] - 18), rng, 6)
    pattern, gap = rng.choice(("plain", "stripes", "checks")), rng.randint(5, 9)
    for step in range(0, 2 * UNITS, gap):
        if pattern != "plain":
            pen.line([(step, 0), (step - UNITS / 3, UNITS)], dark, 1.5)
        if pattern == "checks":
            pen.line([(0, step), (UNITS, step)], dark, 1.5)


def _pan(pen: _Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    angle = rng.uniform(0, 2 * math.pi)
    pen.shape(x, y, angle, [(0, -2.5), (34, -2.5), (34, 2.5), (0, 2.5)], _shade((30, 30, 34), rng))
    pen.disc(x, y, reach, _shade((52, 52, 58), rng), (22, 22, 26), 2)
    for _ in range(10):  # drops of oil
        turn, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 0.95) * reach
        pen.disc(x + far * math.cos(turn), y + far * math.sin(turn), 0.9, (214, 176, 60))


def _grill(pen: _Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    pen.shape(x, y, 0, [(-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach)], _shade((200, 84, 40), rng))
    bar = _shade((70, 70, 76), rng)
    for step in range(-4, 5):
        across = step * reach / 4
        pen.line([(x + across, y - reach), (x + across, y + reach)], bar, 2)


def _tray(pen: _Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    side = [(-reach, -0.9 * reach), (reach, -0.9 * reach), (reach, 0.9 * reach), (-reach, 0.9 * reach)]
    pen.shape(x, y, 0, side, _shade((36, 84, 150), rng))
    pen.shape(x, y, 0, [(0.86 * a, 0.84 * b) for a, b in side], _shade((226, 206, 168), rng))


def _basket(pen: _Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    pen.disc(x, y, reach, _shade((214, 180, 112), rng), (132, 92, 40), 2.5)
    for step in range(-4, 5):
        across = step * reach / 4.6
        half = math.sqrt(max(0.0, (reach - 2) ** 2 - across**2))
        pen.line([(x - half, y + across), (x + half, y + across)], (184, 146, 84), 0.8)


def _bowl(pen: _Pen, x: float, y: float, reach: float, rng: random.Random) -> None:
    pen.disc(x, y, reach, _shade((238, 240, 242), rng, 6), (150, 156, 166), 1)
    for step in range(8):
        turn = 2 * math.pi * step / 8 + rng.uniform(-0.2, 0.2)
        pen.oval(x + (reach - 1.5) * math.cos(turn), y + (reach - 1.5) * math.sin(turn), turn, 3, 1.6, (118, 196, 72))


def _traces(pen: _Pen, style: str, x: float, y: float, reach: float, rng: random.Random) -> None:
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


_VESSELS: dict[str, Callable[[_Pen, float, float, float, random.Random], None]] = {
    "pan": _pan,
    "grill": _grill,
    "tray": _tray,
    "basket": _basket,
    "bowl": _bowl,
}


# --- pieces: (pen, middle x, middle y, radius, angle, random source) ---


def _steak(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    outline = [(1.0, 0.1), (0.6, 0.75), (-0.3, 0.7), (-1.0, 0.35), (-0.9, -0.45), (-0.1, -0.6), (0.7, -0.75)]
    pen.shape(x, y, angle, [(a * r, b * r) for a, b in outline], (236, 200, 180))
    pen.shape(x, y, angle, [(0.82 * a * r, 0.78 * b * r) for a, b in outline], _shade((126, 48, 40), rng))


def _carrot(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.shape(x, y, angle, [(-r, -0.5 * r), (-r, 0.5 * r), (1.2 * r, 0)], _shade((244, 128, 24), rng))
    pen.shape(x, y, angle, [(-0.8 * r, 0), (-1.5 * r, -0.45 * r), (-1.5 * r, 0.45 * r)], (52, 150, 44))


def _onion(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.disc(x, y, r, (240, 222, 240))
    pen.ring(x, y, r, _shade((140, 44, 150), rng), 0.9)
    pen.ring(x, y, 0.5 * r, _shade((160, 70, 170), rng), 0.7)


def _pepper(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    colour = _shade((40, 168, 52), rng)
    for turn in (0.0, 2.1, 4.2):
        pen.spot(x, y, angle + turn, 0.45 * r, 0, 0.62 * r, colour)
    pen.disc(x, y, 0.4 * r, (206, 236, 160))


def _mushroom(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.shape(x, y, angle, [(-0.3 * r, 0), (0.3 * r, 0), (0.36 * r, r), (-0.36 * r, r)], (244, 234, 214))
    cap = [(r * math.cos(math.pi + math.pi * s / 8), 0.9 * r * math.sin(math.pi + math.pi * s / 8)) for s in range(9)]
    pen.shape(x, y, angle, [(a, b + 0.15 * r) for a, b in cap], _shade((126, 96, 110), rng))


def _shrimp(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    colour = _shade((250, 140, 140), rng)
    for step in range(7):
        turn = angle + 0.65 * step
        thick = 0.46 - 0.04 * step
        pen.disc(x + 0.65 * r * math.cos(turn), y + 0.65 * r * math.sin(turn), thick * r, colour)


def _tomato(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.disc(x, y, r, _shade((222, 34, 30), rng))
    for step in range(5):
        turn = angle + step * 2 * math.pi / 5
        pen.oval(x + 0.2 * r * math.cos(turn), y + 0.2 * r * math.sin(turn), turn, 0.3 * r, 0.1 * r, (40, 120, 40))


def _egg(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.oval(x, y, angle, r, 0.8 * r, (252, 252, 250))
    pen.disc(x, y, 0.48 * r, _shade((250, 196, 30), rng))


def _olive(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.oval(x, y, angle, 1.1 * r, 0.85 * r, _shade((104, 116, 30), rng))
    pen.disc(x, y, 0.38 * r, (214, 40, 36))


def _cheese(pen: _Pen, x: float, y: float, r: float, angle: float, rng: random.Random) -> None:
    pen.shape(x, y, angle, [(-0.8 * r, -r), (-0.8 * r, r), (1.1 * r, 0)], _shade((252, 214, 66), rng))
    for dx, dy, hole in ((-0.4, -0.4, 0.2), (-0.35, 0.35, 0.24), (0.25, 0.0, 0.18)):
        pen.spot(x, y, angle, dx * r, dy * r, hole * r, (206, 150, 24))


_PIECES: dict[str, Callable[[_Pen, float, float, float, float, random.Random], None]] = {
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

_RADIUS = {
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
