"""Run-length encoded masks, checked before anything native sees them.

COCO gives the masks of crowds as lengths of runs, down the columns, of pixels that are outside and
inside in turn. pycocotools decodes them in C without any check: lengths that do not add up to the
picture are read and written beyond its memory, and so is a text that ends within a number.
"""

from typing import Any

_FIRST = 48  # the character that stands for 0; the others follow
_DIGIT, _SIGN, _MORE = 0x1F, 0x10, 0x20
_LONGEST = 13  # characters of a number: 64 bits, 5 in each


def mask_fault(mask: dict[str, Any], width: int, height: int) -> str | None:
    """Return what is wrong with a run-length encoded mask, or None.

    Args:
        mask: As JSON has it: ``"size"``, height and width; and ``"counts"``, the runs' lengths as
            a list, or as COCO's compressed text.
        width: The picture's width.
        height: The picture's height.
    """
    if mask.get("size") != [height, width]:
        return f"size {str(mask.get('size'))[:60]}, not [{height}, {width}]"
    counts = mask.get("counts")
    if isinstance(counts, str):
        counts = _decompressed(counts)
        if counts is None:
            return "counts that are no compressed numbers"
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        return "counts that are no list of whole numbers"
    if min(counts, default=0) < 0:
        return "negative counts"
    if sum(counts) != width * height:
        return f"counts of {sum(counts)} pixels, not {width * height}"
    return None


def _decompressed(text: str) -> list[int] | None:
    """Return the numbers of COCO's compressed text, or None if it holds none.

    A number has 5 bits in each character, the lowest first, and a bit that says whether more
    follow; the highest is its sign. From the fourth on, numbers are differences to the last but
    one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code < 2 * _MORE or shift >= 5 * _LONGEST:
            return None
        value |= (code & _DIGIT) << shift
        shift += 5
        if not code & _MORE:
            if code & _SIGN:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return None if shift else counts
