"""What one request, and all requests together, may ask of the server."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request, and all requests together, may ask of the server.

    Args:
        max_megabytes: Size of a body, in 1,000,000 bytes.
        max_megapixels: Pixels of an image, in 1,000,000, compared before it is decoded.
        timeout: Seconds in which a body must arrive, and then again seconds in which its prediction
            must end.
        queue: Requests at a time; the one that is being predicted counts.

    Raises:
        ValueError: If a limit is no finite number greater than 0, or `max_megapixels` is more than
            Pillow decodes.

    Examples:
        >>> Limits(max_megabytes=0.5).max_bytes
        500000
    """

    max_megabytes: float = 20
    max_megapixels: float = 50
    timeout: float = 60
    queue: int = 8

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(
                    f"`{name}` ({option}) must be a finite number greater than 0. Received: "
                    f"{name}={value}."
                )
        from PIL import Image  # Late: the command line's help needs only the defaults.

        # Pillow raises a DecompressionBombError above twice its limit.
        most = Image.MAX_IMAGE_PIXELS and 2 * Image.MAX_IMAGE_PIXELS
        if most is not None and 1e6 * self.max_megapixels > most:
            raise ValueError(
                f"`max_megapixels` (--max-megapixels) must be at most {most // 1_000_000}, the "
                f"largest images that Pillow decodes. Received: {self.max_megapixels:g}."
            )

    @property
    def max_bytes(self) -> int:
        """`max_megabytes` in bytes."""
        return round(1e6 * self.max_megabytes)

    @property
    def max_pixels(self) -> int:
        """`max_megapixels` in pixels."""
        return round(1e6 * self.max_megapixels)
