"""Silhouettes drawn with Pillow, without the code under test, and files of them."""

import pickle
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw


def draw(step, height=120, at=(160, 120), canvas=(320, 240)):
    """One white walker on black, canvas and place as (x, y): legs swing with the step."""
    image = Image.new("L", canvas)
    pen, (x, y), u = ImageDraw.Draw(image), at, height / 12
    swing = u * (2 + np.sin(0.7 * step))
    top = y - 6 * u
    pen.ellipse([x - 0.8 * u, top, x + 0.8 * u, top + 2 * u], fill=255)
    pen.rectangle([x - 1.4 * u, top + 1.8 * u, x + 1.4 * u, top + 6.5 * u], fill=255)
    for side in (-1, 1):
        foot = x + side * swing
        legs = [(x - u, top + 6 * u), (x + u, top + 6 * u), (foot + 0.6 * u, top + 12 * u)]
        pen.polygon([*legs, (foot - 0.6 * u, top + 12 * u)], fill=255)
    return image


def aligned(step, h=64, w=64):
    """One silhouette as OpenGait stores it: the full height, in the middle of a square."""
    return np.asarray(draw(step, h - 1, (w // 2, h // 2), (w, h)))


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path)


def dump(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(array))


def header_bomb():
    """A PNG of a few bytes whose header claims 30,000 x 30,000 pixels."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
