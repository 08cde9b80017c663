"""A pen for pictures measured in units of 1/48 of the side."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
UNITS = 48  # the side of a picture


class Pen:
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


def shade(colour: Colour, rng: random.Random, by: int = 10) -> Colour:
    shift = rng.randint(-by, by)
    red, green, blue = (max(0, min(255, value + shift + rng.randint(-by // 2, by // 2))) for value in colour)
    return red, green, blue
