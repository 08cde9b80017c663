"""Any picture that Pillow opens to 8-bit RGB, as an image viewer shows it: scaled, on white, turned.

    16-bit grey            value / 257, rounded; of 12 bits in a TIFF: value * 255 / 4095
    I, F, signed (no       F within 0..1: times 255. Within 0..255: as it is. Else stretched from least to greatest,
    stated white)          as scientific viewers do; what is not finite is black
    white is zero          a TIFF's values are inverted, whatever their type
    transparency           laid on white: alpha channel, palette with alpha, one colour marked as transparent (in a
                           PNG of 16 bits RGB every colour with its high bytes: Pillow hands on no others)
    GIF                    white where the first frame does not reach
    CMYK, YCbCr, LAB, ..   Pillow's conversion; colour profiles are not applied, as in LLaVA's own code
    EXIF orientation       applied, so width and height may change places

Opaque 8-bit pictures without an orientation come out as `image.convert("RGB")` has them, to the bit.
"""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from components.images import tiff

GROUND = (255, 255, 255)  # what shows where a picture is transparent
_DEEP_GREY = ("I;16", "I;16B", "I;16L", "I;16N")
_STRIP = 1 << 20  # pixels converted at once, so that a picture takes little more memory than its RGB copy
_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow's raw modes: what one step of the file is in 8 bits
_TURNS = {  # EXIF orientation: what brings the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def to_rgb(image: Image.Image) -> Image.Image:
    """The first frame of an opened image as RGB. Raises what Pillow raises on damaged bytes."""
    _mend_transparency(image)
    covered = image.tile[0][1] if image.format == "GIF" and image.tile else None  # type: ignore[attr-defined]
    image.load()
    turn = _TURNS.get(_orientation(image))
    if image.mode in _DEEP_GREY:
        shown = _deep_grey(image)
    elif image.mode in ("I", "F") or tiff.number_type(image):
        shown = _without_white(image)
    elif image.has_transparency_data:
        shown = _on_ground(image.convert("LA") if image.mode == "La" else image)
    else:
        shown = image.convert("RGB")
    if covered and covered != (0, 0, *image.size):
        shown = _laid_on_ground(shown, covered)
    return shown if turn is None else shown.transpose(turn)


def _mend_transparency(image: Image.Image) -> None:
    """Pillow brings a PNG's 2, 4 and 16 bits to 8 and leaves the transparent colour as the file has it."""
    clear = image.info.get("transparency")
    tile = getattr(image, "tile", None)
    raw_mode = tile[0][3] if image.format == "PNG" and tile else None
    if raw_mode in _GREY_STEPS and isinstance(clear, int):
        image.info["transparency"] = clear * _GREY_STEPS[raw_mode] & 255
    elif raw_mode == "RGB;16B" and isinstance(clear, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _orientation(image: Image.Image) -> int:
    """EXIF's number of the turn, 1 where there is none. Pillow has turned a TIFF itself by now."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block raises almost anything; it turns nothing, in viewers too
        return 1
    return found if isinstance(found, int) else 1


def _deep_grey(image: Image.Image) -> Image.Image:
    """Up to 16 bits a pixel; one value may be marked as transparent, and in a TIFF zero may be white."""
    inverted, most = tiff.white_is_zero(image), 2 ** tiff.num_bits(image, 16) - 1
    clear = image.info.get("transparency")
    values = np.asarray(image)
    grey = np.empty(values.shape, np.uint8)
    for rows in _strips(*values.shape):
        scaled = (values[rows].astype(np.uint32) * 255 + most // 2) // most
        grey[rows] = 255 - scaled if inverted else scaled
        if isinstance(clear, int):
            grey[rows][values[rows] == clear] = GROUND[0]
    return Image.fromarray(grey).convert("RGB")


def _without_white(image: Image.Image) -> Image.Image:
    """Numbers of 32 bits, floating or signed. A PPM is the exception: Pillow brings its values to 0..65535."""
    values, inverted = np.asarray(image), tiff.white_is_zero(image)
    values = values.view(tiff.number_type(image) or values.dtype)
    finite = [part[np.isfinite(part)] for part in (values[rows] for rows in _strips(*values.shape))]
    least = min((float(part.min()) for part in finite if part.size), default=0.0)
    most = max((float(part.max()) for part in finite if part.size), default=0.0)
    if image.format == "PPM" and image.mode == "I":
        least, span = 0.0, 65535.0
    elif least >= 0 and most <= 1 and image.mode == "F":
        least, span = 0.0, 1.0
    elif least >= 0 and most <= 255:
        least, span = 0.0, 255.0
    else:
        span = most - least or 1.0
    black = least + span if inverted else least
    grey = np.empty(values.shape, np.uint8)
    for rows in _strips(*values.shape):
        part = np.nan_to_num(values[rows].astype(np.float64), nan=black, posinf=most, neginf=least)
        scaled = np.clip(np.rint((part - least) / span * 255), 0, 255)
        grey[rows] = 255 - scaled if inverted else scaled
    return Image.fromarray(grey).convert("RGB")


def _on_ground(image: Image.Image) -> Image.Image:
    shown = Image.new("RGB", image.size, GROUND)
    for rows in _strips(image.height, image.width):
        part = image.crop((0, rows.start, image.width, rows.stop)).convert("RGBA")
        ground = Image.new("RGBA", part.size, (*GROUND, 255))
        shown.paste(Image.alpha_composite(ground, part).convert("RGB"), (0, rows.start))
    return shown


def _laid_on_ground(shown: Image.Image, covered: tuple[int, int, int, int]) -> Image.Image:
    """What of the picture the file holds, on white: Pillow leaves the rest at the palette's first colour."""
    ground = Image.new("RGB", shown.size, GROUND)
    ground.paste(shown.crop(covered), covered[:2])
    return ground


def _strips(height: int, width: int) -> list[slice]:
    step = max(1, _STRIP // width)
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]
