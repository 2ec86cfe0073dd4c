"""Bits of a NAL unit, most significant first, with the codes of H.264 and H.265 (9.1 and 9.2)."""

LONGEST = 4096  # bytes that are looked at: no parameter set, nor the header of a slice, is as long


class Bits:
    """Reads the bits of a NAL unit's payload.

    Args:
        data: the bytes after the header.
        escaped: emulation prevention is to be taken out of them.

    Attributes:
        at: bits that were read.
    """

    def __init__(self, data: bytes | bytearray | memoryview, *, escaped: bool = True) -> None:
        payload = bytes(data[:LONGEST])
        if escaped:
            payload = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(payload, "big")
        self._size = len(payload) * 8
        self.at = 0

    def take(self, number: int) -> int:
        """That many bits. Raises ValueError beyond the end."""
        end = self.at + number
        if end > self._size:
            raise ValueError("it ends too soon")
        self.at = end
        return self._value >> (self._size - end) & ((1 << number) - 1)

    def flag(self) -> bool:
        """One bit. Raises ValueError beyond the end."""
        return self.take(1) == 1

    def number(self) -> int:
        """An unsigned number in the code of Exp-Golomb, ``ue(v)``. Raises ValueError beyond the end."""
        left = self._size - self.at
        rest = self._value & ((1 << left) - 1)
        zeros = left - rest.bit_length()
        if zeros > 32:
            raise ValueError("a number has too many bits")
        left -= 2 * zeros + 1
        if left < 0:
            raise ValueError("it ends too soon")
        self.at = self._size - left
        return (rest >> left) - 1

    def signed(self) -> int:
        """A signed number in that code, ``se(v)``. Raises ValueError beyond the end."""
        number = self.number()
        return (number + 1) // 2 if number & 1 else -(number // 2)

    def skip_numbers(self, count: int) -> None:
        """Passes over numbers, signed or not."""
        for _ in range(count):
            self.number()


def number_code(value: int) -> str:
    """The same code of an unsigned number, as zeros and ones."""
    binary = format(value + 1, "b")
    return "0" * (len(binary) - 1) + binary
