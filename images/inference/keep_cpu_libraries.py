"""Deletes the parts of the torch wheel that only a GPU loads, for the image's CPU target.

The wheel on the package index is built for CUDA. Its libraries are linked against some of
CUDA's, which a CPU process therefore maps, and opens the others when a device is there.
This keeps the first kind: it runs torch once and deletes each CUDA library that the process
did not map.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

EXERCISE = """
import torch
model = torch.jit.freeze(torch.jit.script(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()).eval()))
model(torch.ones(4, 8))
print(open("/proc/self/maps").read())
"""


def main() -> None:
    """Delete, then run the same exercise again on what is left."""
    site_packages = Path(sysconfig.get_path("purelib"))
    mapped = subprocess.run([sys.executable, "-c", EXERCISE], check=True, capture_output=True, text=True).stdout
    for library in site_packages.glob("nvidia/**/*.so*"):
        if str(library) not in mapped:
            library.unlink()
    # The compiler of GPU kernels; CPU inference neither imports nor needs it.
    for directory in ("triton", "nvidia/cu13/include", "nvidia/cu13/bin", "nvidia/cu13/nvvm", "torch/include"):
        shutil.rmtree(site_packages / directory, ignore_errors=True)
    subprocess.run([sys.executable, "-c", EXERCISE], check=True, capture_output=True)


if __name__ == "__main__":
    main()
