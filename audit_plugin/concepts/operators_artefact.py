"""Operators that lay something over a picture, as cameras, software and laboratories do: frames, text, marks, dirt.

Each is drawn on a transparent layer in units of a picture whose shorter side is 224, at twice that size at least, and scaled down
with it, so an artefact covers the same share of a small picture and of a large one.  Source: diffex_diffexplainer.md 3.4.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from audit_plugin.concepts.operators_detail import REFERENCE_PX
from audit_plugin.concepts.operators_tone import Pixels, quantised

BORDERS: Mapping[str, int] = {"white": 255, "black": 0}
MAX_SHEET_PX = 8192
"""Longer side of the sheet over a picture that is smaller than that; bounds the memory for a very long one."""
Colour = tuple[int, int, int, int]
AMBER, WHITE, INK = (255, 165, 40, 255), (255, 255, 255, 255), (30, 30, 30, 255)


class Layer:
    """A transparent sheet over one image; coordinates in units of which the shorter side has 224."""

    def __init__(self, image: Pixels) -> None:
        height, width = image.shape[:2]
        self.image = image
        grow = max(1.0, min(2 * REFERENCE_PX / min(height, width), MAX_SHEET_PX / max(height, width)))
        self.scale: float = grow * min(height, width) / REFERENCE_PX
        self.sheet = Image.new("RGBA", (round(width * grow), round(height * grow)))
        self.draw = ImageDraw.Draw(self.sheet)
        self.width, self.height = self.sheet.width / self.scale, self.sheet.height / self.scale

    def px(self, *lengths: float) -> list[float]:
        """Units to pixels of the sheet."""
        return [length * self.scale for length in lengths]

    def thick(self, width: float) -> int:
        """A line's width in pixels of the sheet."""
        return max(1, round(float(width * self.scale)))

    def text(self, x: float, y: float, text: str, *, height: float, colour: Colour, anchor: str, rimmed: bool = True) -> None:
        """Text by Pillow's own font, at an anchor by Pillow's names, by default with a thin dark rim."""
        font = ImageFont.load_default(max(4.0, height * self.scale))
        rim, wide = (0, 0, 0, 2 * colour[3] // 3), self.thick(1)
        at = (x * self.scale, y * self.scale)
        self.draw.text(at, text, fill=colour, font=font, anchor=anchor, stroke_width=wide if rimmed else 0, stroke_fill=rim)

    def laid(self) -> Pixels:
        """The image under the sheet, at the image's size."""
        height, width = self.image.shape[:2]
        small = np.asarray(self.sheet.resize((width, height), Image.Resampling.BOX), dtype=np.float64)
        cover = small[..., 3:] / 255
        return quantised(self.image * (1 - cover) + small[..., :3] * cover)


def border(image: Pixels, *, colour: str, width_px: float) -> Pixels:
    """A frame of one colour around the picture; at least one pixel."""
    wide = max(1, round(width_px * min(image.shape[:2]) / REFERENCE_PX))
    out = np.full_like(image, BORDERS[colour])
    out[wide:-wide, wide:-wide] = image[wide:-wide, wide:-wide]
    return out


def timestamp_text(image: Pixels) -> Pixels:
    """Date and time in amber at the lower right, as cameras print them."""
    layer = Layer(image)
    layer.text(layer.width - 8, layer.height - 8, "2021-06-14 12:30", height=20, colour=AMBER, anchor="rs")
    return layer.laid()


def watermark_text(image: Pixels) -> Pixels:
    """A word across the picture, half transparent, as picture agencies print it."""
    layer = Layer(image)
    layer.text(layer.width / 2, layer.height / 2, "SAMPLE", height=48, colour=(255, 255, 255, 140), anchor="mm")
    layer.sheet = layer.sheet.rotate(30, Image.Resampling.BICUBIC)
    return layer.laid()


def logo_box(image: Pixels) -> Pixels:
    """A small square emblem at the upper right."""
    layer = Layer(image)
    right = layer.width - 8
    layer.draw.rounded_rectangle(layer.px(right - 36, 8, right, 44), radius=layer.thick(6), fill=(20, 80, 170, 255))
    layer.draw.ellipse(layer.px(right - 30, 14, right - 6, 38), fill=WHITE)
    layer.draw.polygon(layer.px(right - 18, 18, right - 26, 33, right - 10, 33), fill=(200, 40, 40, 255))
    return layer.laid()


def ruler_strip(image: Pixels) -> Pixels:
    """A paper ruler along the lower edge, as in medical and forensic pictures."""
    layer = Layer(image)
    top = layer.height - 26
    layer.draw.rectangle(layer.px(0, top, layer.width, layer.height), fill=(245, 243, 232, 255))
    for tick in range(int(layer.width // 4) + 1):
        x, long = 4.0 * tick, 14 if tick % 10 == 0 else 10 if tick % 5 == 0 else 6
        layer.draw.line(layer.px(x, top, x, top + long), fill=INK, width=layer.thick(1))
        if tick % 10 == 0:
            layer.text(x + 2, top + 24, str(tick // 10), height=10, colour=INK, anchor="ls", rimmed=False)
    return layer.laid()


def marker_circle(image: Pixels) -> Pixels:
    """A ring in violet felt pen around the middle, as surgeons and reviewers draw it."""
    layer = Layer(image)
    x, y = layer.width / 2, layer.height / 2
    layer.draw.ellipse(layer.px(x - 68, y - 62, x + 68, y + 62), outline=(90, 30, 150, 230), width=layer.thick(6))
    return layer.laid()


def hair_lines(image: Pixels, *, count: int, seed: int) -> Pixels:
    """Thin dark curves across the picture, where the seed puts them."""
    layer, draw = Layer(image), np.random.default_rng(seed)
    along = np.linspace(0, 1, 24)[:, None]
    for _ in range(count):
        start, bend, end = draw.uniform(-0.1, 1.1, (3, 2)) * (layer.width, layer.height)
        curve = (1 - along) ** 2 * start + 2 * along * (1 - along) * bend + along**2 * end
        layer.draw.line(layer.px(*curve.ravel()), fill=(35, 22, 15, 230), width=layer.thick(2), joint="curve")
    return layer.laid()


def lens_dust(image: Pixels, *, count: int, seed: int) -> Pixels:
    """Soft dark specks, where the seed puts them."""
    layer, draw = Layer(image), np.random.default_rng(seed)
    for _ in range(count):
        x, y = draw.uniform(0, 1, 2) * (layer.width, layer.height)
        radius, cover = draw.uniform(4, 11), int(draw.uniform(140, 220))
        layer.draw.ellipse(layer.px(x - radius, y - radius, x + radius, y + radius), fill=(25, 22, 20, cover))
    layer.sheet = layer.sheet.filter(ImageFilter.GaussianBlur(1.6 * layer.scale))
    return layer.laid()
