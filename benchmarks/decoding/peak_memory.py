"""The peak memory of decoding one file, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from model.images.decoder_names import DecoderName

_WARM_UP = 300  # pixels of a side: what is imported and allocated for any picture is not counted
# The file is read before the measurement; VmHWM is the peak of the resident set, which writing 5 resets (proc(5)).
_PROGRAM = f"""
import sys
from pathlib import Path
from benchmarks.decoding.files import encoded, gradient
from model.config import Preprocessing
from model.images.decoders import image_decoder
from model.images.preprocessing import ImageError, open_header

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def load_image(data, max_pixels):
    opened = open_header(data, max_pixels, config.draft_size)
    decoder.load(opened)
    return decoder.preprocess(opened, config)

config, decoder = Preprocessing(size=224), image_decoder(sys.argv[3])
for format_name in ("JPEG", "PNG", "WEBP", "TIFF"):
    load_image(encoded(gradient({_WARM_UP}, "RGB"), format_name), {_WARM_UP * _WARM_UP})
data = Path(sys.argv[1]).read_bytes()
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
try:
    load_image(data, int(sys.argv[2]))
    outcome = "read"
except ImageError as error:
    outcome = error.code
print(resident("VmHWM") - before, outcome)
"""


@dataclass(frozen=True)
class Peak:
    """Bytes above what the process had before, and `read` or the code of the error."""

    bytes: int
    outcome: str


def measure_peak(data: bytes, max_pixels: int, decoder: DecoderName = "pillow") -> Peak:
    """Decode and preprocess a file as the service does with that decoder. Linux only: raises OSError elsewhere."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        root = Path(__file__).parents[2]
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _PROGRAM, file.name, str(max_pixels), decoder],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    size, outcome = done.stdout.split()
    return Peak(int(size), outcome)
