"""What the process that converts is asked for."""

import dataclasses
import json
from pathlib import Path

from keras_fcn.export.metadata import Metadata


@dataclasses.dataclass(frozen=True)
class Request:
    """One conversion.

    Args:
        model: The `.keras` file of the model.
        target: File or folder to write.
        format: Name of the format.
        metadata: What the file stores, with its output, size and quantization.
        calibration: Images whose activations set the ranges of int8.
        scratch: Existing folder for intermediate files.
    """

    model: Path
    target: Path
    format: str
    metadata: Metadata
    calibration: tuple[Path, ...]
    scratch: Path

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        path.write_text(json.dumps(values | {"metadata": self.metadata.as_strings()}, default=str))

    @classmethod
    def read(cls, path: Path) -> "Request":
        """Returns what `write` wrote."""
        values = json.loads(path.read_text())
        places = {name: Path(values[name]) for name in ("model", "target", "scratch")}
        return cls(
            **places,
            format=values["format"],
            metadata=Metadata.from_strings(values["metadata"]),
            calibration=tuple(map(Path, values["calibration"])),
        )
