"""Parameter sets and slice headers of H.265, as far as they are needed (ITU-T H.265, 7.3.2 and 7.3.6.1)."""

from dataclasses import dataclass

from framesrv.codec.bits import Bits

VPS, SPS, PPS = 32, 33, 34
LAST_SLICE = 31
FIRST_KEY, LAST_KEY = 16, 23  # IRAP pictures
IDR = (19, 20)
B, P = 0, 1  # slice types
SEQUENCE_SETS, PICTURE_SETS = 16, 64  # that there may be (7.4.3)
HEADER = 1024  # bytes of a slice in which its header ends
SETS = 65  # of reference pictures, with the one in a slice

Bytes = bytes | bytearray | memoryview
References = tuple[tuple[int, bool], ...]  # how far each picture is in display order, and whether it is referred to


@dataclass(frozen=True)
class SequenceSet:
    """Of a sequence parameter set.

    Attributes:
        size: width and height of what is shown, pixels.
        block: side of a coding tree block, pixels.
        blocks: of these a picture has.
        chroma: format of the colours, as 1 for 4:2:0.
        separate: the three colours are coded apart.
        order_bits: of a picture's number in the order of display.
        references: the sets of reference pictures.
        long_term: pictures may be referred to for long; each of the set's own is `long_used` or not.
        adaptive: sample adaptive offset.
        temporal: motion vectors of other pictures are used.
    """

    size: tuple[int, int]
    block: int
    blocks: int
    chroma: int
    separate: bool
    order_bits: int
    references: tuple[References, ...]
    long_term: bool
    long_used: tuple[bool, ...]
    adaptive: bool
    temporal: bool


@dataclass(frozen=True)
class PictureSet:
    """Of a picture parameter set; names are those of the standard, without ``_flag``.

    Attributes:
        number: its own.
        sequence: its sequence's.
        flag_at: bits of the payload before the flag that allows dependent slice segments.
        dependent: that flag.
        wavefront: each row of coding tree blocks begins where the slice's header says, and could be decoded apart.
    """

    number: int
    sequence: int
    flag_at: int
    dependent: bool
    output_flag_present: bool
    extra_bits: int
    cabac_init_present: bool
    default_active: tuple[int, int]
    chroma_qp_offsets_present: bool
    weighted_pred: bool
    weighted_bipred: bool
    entries: bool
    wavefront: bool
    loop_filter_across: bool
    deblocking_override: bool
    deblocking_disabled: bool
    lists_modification: bool
    extension: bool


def picture_set(nal: Bytes) -> tuple[int, PictureSet]:
    """The number of a picture parameter set, and what is in it. Raises ValueError for one that cannot be read."""
    bits = Bits(nal[2:])
    number, sequence = bits.number(), bits.number()
    if number >= PICTURE_SETS:
        raise ValueError("a parameter set has an impossible number")
    flag_at = bits.at
    dependent, output_flag_present, extra_bits = bits.flag(), bits.flag(), bits.take(3)
    bits.take(1)
    cabac_init_present = bits.flag()
    default_active = bits.number() + 1, bits.number() + 1
    bits.number()
    bits.take(2)
    if bits.flag():
        bits.number()
    bits.skip_numbers(2)
    offsets, weighted_pred, weighted_bipred = bits.flag(), bits.flag(), bits.flag()
    bits.take(1)
    tiles, wavefront = bits.flag(), bits.flag()
    if tiles:
        columns, rows = bits.number(), bits.number()
        if not bits.flag():
            bits.skip_numbers(columns + rows)
        bits.take(1)
    across = bits.flag()
    override = disabled = False
    if bits.flag():
        override, disabled = bits.flag(), bits.flag()
        if not disabled:
            bits.skip_numbers(2)
    if bits.flag():
        _skip_scaling_lists(bits)
    modification = bits.flag()
    bits.number()
    return number, PictureSet(
        number,
        sequence,
        flag_at,
        dependent,
        output_flag_present,
        extra_bits,
        cabac_init_present,
        default_active,
        offsets,
        weighted_pred,
        weighted_bipred,
        tiles or wavefront,
        wavefront and not tiles,
        across,
        override,
        disabled,
        modification,
        bits.flag(),
    )


def sequence_set(nal: Bytes) -> tuple[int, SequenceSet]:
    """The number of a sequence parameter set, and what is in it. Raises ValueError for one that cannot be read."""
    bits = Bits(nal[2:])
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    _skip_profile(bits, layers)
    number, chroma = bits.number(), bits.number()
    if number >= SEQUENCE_SETS:
        raise ValueError("a parameter set has an impossible number")
    separate = chroma == 3 and bits.flag()
    width, height = bits.number(), bits.number()
    shown = _shown(bits, width, height, chroma)
    bits.skip_numbers(2)
    order_bits = bits.number() + 4
    ordered = bits.flag()
    bits.skip_numbers(3 * (layers + 1 if ordered else 1))
    size = bits.number() + 3 + bits.number()
    if not 3 <= size <= 6 or order_bits > 16:
        raise ValueError("a size in it is impossible")
    bits.skip_numbers(4)
    if bits.flag() and bits.flag():
        _skip_scaling_lists(bits)
    bits.take(1)
    adaptive = bits.flag()
    if bits.flag():
        bits.take(8)
        bits.skip_numbers(2)
        bits.take(1)
    count = bits.number()
    if count >= SETS:
        raise ValueError("it has too many sets of references")
    references: list[References] = []
    for _ in range(count):
        references.append(_references(bits, references, count))
    long_term, long_used = bits.flag(), []
    if long_term:
        for _ in range(bits.number()):
            bits.take(order_bits)
            long_used.append(bits.flag())
    blocks = (width + (1 << size) - 1 >> size) * (height + (1 << size) - 1 >> size)
    return number, SequenceSet(
        shown,
        1 << size,
        blocks,
        chroma,
        separate,
        order_bits,
        tuple(references),
        long_term,
        tuple(long_used),
        adaptive,
        bits.flag(),
    )


def _shown(bits: Bits, width: int, height: int, chroma: int) -> tuple[int, int]:
    if bits.flag():
        left, right, top, bottom = (bits.number() for _ in range(4))
        width -= (2 if chroma in (1, 2) else 1) * (left + right)
        height -= (2 if chroma == 1 else 1) * (top + bottom)
    if width <= 0 or height <= 0:
        raise ValueError("nothing of a picture is left to show")
    return width, height


@dataclass(frozen=True)
class SliceHeader:
    """Where things stand in the header of a slice that is not the first of its picture.

    Attributes:
        address: of its first coding tree block.
        flag_at: bits of the payload before the place of the flag for a dependent one.
        ends: bits of the payload before the alignment that ends the header.
    """

    address: int
    flag_at: int
    ends: int


def slice_address(nal: Bytes, pictures: PictureSet, sequence: SequenceSet) -> int:
    """Of a slice that is not the first of its picture. Raises ValueError for one that cannot be read."""
    bits = Bits(nal[2:HEADER])
    _to_address(bits, nal[0] >> 1 & 63)
    bits.take(pictures.dependent)
    return bits.take((sequence.blocks - 1).bit_length())


def slice_header(nal: Bytes, pictures: PictureSet, sequence: SequenceSet) -> SliceHeader:
    """Of such a slice, where the set does not allow dependent ones. Raises ValueError for one that cannot be read."""
    kind = nal[0] >> 1 & 63
    bits = Bits(nal[2:HEADER])
    _to_address(bits, kind)
    flag_at = bits.at
    address = bits.take((sequence.blocks - 1).bit_length())
    bits.take(pictures.extra_bits)
    type_ = bits.number()
    bits.take(pictures.output_flag_present + 2 * sequence.separate)
    temporal, used = False, 0
    if kind not in IDR:
        used = _count_references(bits, sequence)
        temporal = sequence.temporal and bits.flag()
    adapts = False
    if sequence.adaptive:
        luma = bits.flag()
        chroma = not sequence.separate and sequence.chroma != 0 and bits.flag()
        adapts = luma or chroma
    if type_ in (P, B):
        _skip_prediction(bits, type_, used, temporal, pictures, sequence)
    bits.number()
    if pictures.chroma_qp_offsets_present:
        bits.skip_numbers(2)
    _skip_filters(bits, pictures, adapts=adapts)
    if pictures.entries:
        count = bits.number()
        if count:
            bits.take((bits.number() + 1) * count)
    if pictures.extension:
        bits.take(8 * bits.number())
    return SliceHeader(address, flag_at, bits.at)


def _skip_filters(bits: Bits, pictures: PictureSet, *, adapts: bool) -> None:
    disabled = pictures.deblocking_disabled
    if pictures.deblocking_override and bits.flag():
        disabled = bits.flag()
        if not disabled:
            bits.skip_numbers(2)
    if pictures.loop_filter_across and (adapts or not disabled):
        bits.take(1)


def _to_address(bits: Bits, kind: int) -> None:
    bits.take(1 + (FIRST_KEY <= kind <= LAST_KEY))
    bits.number()


def _count_references(bits: Bits, sequence: SequenceSet) -> int:
    """Passes over the pictures that a slice refers to, and counts them."""
    bits.take(sequence.order_bits)
    known = sequence.references
    if bits.flag():
        chosen = known[bits.take((len(known) - 1).bit_length() if known else 0)]
    else:
        chosen = _references(bits, list(known), len(known))
    used = sum(refers for _, refers in chosen)
    if not sequence.long_term:
        return used
    own = sequence.long_used
    from_set = bits.number() if own else 0
    for index in range(from_set + bits.number()):
        if index < from_set:
            used += own[bits.take((len(own) - 1).bit_length())]
        else:
            bits.take(sequence.order_bits)
            used += bits.take(1)
        if bits.flag():
            bits.number()
    return used


def _skip_prediction(
    bits: Bits, type_: int, used: int, temporal: bool, pictures: PictureSet, sequence: SequenceSet
) -> None:
    lists = 2 if type_ == B else 1
    active = list(pictures.default_active[:lists])
    if bits.flag():
        active = [bits.number() + 1 for _ in range(lists)]
    if max(active) > 16:
        raise ValueError("a slice refers to too many pictures")
    if pictures.lists_modification and used > 1:
        for number in active:
            if bits.flag():
                bits.take((used - 1).bit_length() * number)
    if type_ == B:
        bits.take(1)
    if pictures.cabac_init_present:
        bits.take(1)
    if temporal and active[0 if type_ != B or bits.flag() else 1] > 1:
        bits.number()
    if (pictures.weighted_pred and type_ == P) or (pictures.weighted_bipred and type_ == B):
        _skip_weights(bits, active, colours=sequence.chroma != 0 and not sequence.separate)
    bits.number()


def _skip_weights(bits: Bits, active: list[int], *, colours: bool) -> None:
    bits.number()
    if colours:
        bits.number()
    for number in active:
        luma = [bits.flag() for _ in range(number)]
        chroma = [bits.flag() for _ in range(number)] if colours else [False] * number
        for weighs, tints in zip(luma, chroma, strict=True):
            bits.skip_numbers(2 * weighs + 4 * tints)


def _references(bits: Bits, known: list[References], count: int) -> References:
    """A set of reference pictures (7.3.7), the next after those that are known, of which there will be `count`."""
    index = len(known)
    if index and bits.flag():
        return _predicted_references(bits, known, count)
    before, after = bits.number(), bits.number()
    if before + after > 16:
        raise ValueError("a set of references is too large")
    found = []
    for sign, number in ((-1, before), (1, after)):
        delta = 0
        for _ in range(number):
            delta += sign * (bits.number() + 1)
            found.append((delta, bits.flag()))
    return tuple(found)


def _predicted_references(bits: Bits, known: list[References], count: int) -> References:
    """A set that is told by its difference from another (7.4.8)."""
    index = len(known)
    back = bits.number() + 1 if index == count else 1
    if back > index:
        raise ValueError("a set of references leads nowhere")
    negative = bits.flag()
    step = (bits.number() + 1) * (-1 if negative else 1)
    moved = []
    for delta, _ in (*known[index - back], (0, False)):
        refers = bits.flag()
        if (refers or bits.flag()) and delta + step:
            moved.append((delta + step, refers))
    before = sorted((one for one in moved if one[0] < 0), reverse=True)
    return (*before, *sorted(one for one in moved if one[0] > 0))


def _skip_profile(bits: Bits, layers: int) -> None:
    bits.take(88)
    bits.take(8)
    present = [(bits.flag(), bits.flag()) for _ in range(layers)]
    if layers:
        bits.take(2 * (8 - layers))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)


def _skip_scaling_lists(bits: Bits) -> None:
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.flag():
                bits.number()
                continue
            if size > 1:
                bits.number()
            bits.skip_numbers(min(64, 1 << 4 + 2 * size))
