"""Pictures inside a page, made small enough for it."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp')
# Widths that are tried in turn, in pixels, until all pictures fit.
_WIDTHS = (1600, 1200, 900, 700, 500, 350, 240)


@dataclass
class Picture:
    """A picture of an analysis.

    Attributes:
        path (Path): Its file.
        caption (str): What stands beneath it.
        alt (str): What it shows, for those who do not see it.
        uri (str): Itself, as a data URI; empty where it is left out.
    """
    path: Path
    caption: str
    alt: str
    uri: str = ''


def embed(pictures: list[Picture], limit: int) -> list[Picture]:
    """Sets the pictures' data URIs, which take at most ``limit`` bytes.

    They stay as they are where they fit; else all become smaller, and from
    the last on those that still do not fit are left out.

    Returns:
        list[Picture]: Those that are left out.
    """
    uris = [_uri(picture.path.read_bytes(), picture.path.suffix)
            for picture in pictures]
    widest = max(map(_width, pictures), default=0)
    for width, narrower in zip(_WIDTHS, (*_WIDTHS[1:], 0)):
        if sum(map(len, uris)) <= limit:
            break
        if narrower >= widest and narrower:
            continue  # the next one shrinks nothing either
        uris = [_uri(_shrink(picture.path, width), '.webp')
                for picture in pictures]
    left_out = []
    for picture, uri in zip(pictures, uris):
        limit -= len(uri)
        if limit < 0:
            left_out.append(picture)
        else:
            picture.uri = uri
    return left_out


def _width(picture: Picture) -> int:
    with Image.open(picture.path) as image:
        return image.width


def _shrink(path: Path, width: int) -> bytes:
    """A picture as WebP, at most so wide."""
    buffer = io.BytesIO()
    with Image.open(path) as file:
        image = file.convert('RGBA' if 'A' in file.getbands() else 'RGB')
    image.thumbnail((width, 4 * width))
    image.save(buffer, 'webp', quality=80, method=4)
    return buffer.getvalue()


def _uri(content: bytes, suffix: str) -> str:
    kind = suffix.lower().lstrip('.').replace('jpg', 'jpeg')
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'
