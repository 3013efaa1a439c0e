"""The main job on real input: lint real source, fold a trained network, verify it.

`make demo` runs it. Each command is printed as it can be typed, then run as a user would run it;
any unexpected exit code ends the demo with an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fixtures.models.real import crepe_tiny_weights, package_folder  # noqa: E402

OUTPUT = Path("demo-output")


def run(title: str, *arguments: str, expect: int = 0) -> None:
    """Print and run one bncheck command; end the demo if its exit code is another than expected."""
    print(f"\n=== {title}\n$ bncheck {' '.join(arguments)}", flush=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "bncheck", *arguments], env=environment)
    if done.returncode != expect:
        sys.exit(f"demo: exit code {done.returncode}, expected {expect}")


def main() -> None:
    """Run the demo; its files go to `demo-output/`."""
    import torch

    from fixtures.models.real import efficientnet_lite0

    start = time.perf_counter()
    OUTPUT.mkdir(exist_ok=True)
    trained = str(OUTPUT / "efficientnet_lite0.pt")
    folded = str(OUTPUT / "efficientnet_lite0-folded.pt")
    crepe_folded = str(OUTPUT / "crepe-folded.pth")
    torch.save(efficientnet_lite0(), trained)
    trust = ("--trust", "efficientnet_lite_pytorch")
    crepe = ("--arch", "fixtures.models.real:crepe_tiny", "--input", "4,1024")

    run("Lint the source of torchcrepe", "lint", str(package_folder("torchcrepe")), expect=1)
    pytorchcv = str(package_folder("pytorchcv"))
    run("Lint the source of pytorchcv", "lint", "--statistics", pytorchcv, expect=1)
    run("A pickled model is not loaded on faith", "fold", trained, "-o", folded, expect=2)
    run("Fold it", "fold", trained, "-o", folded, *trust, "--input", "1,3,224,224")
    run("Verify what was written", "verify", trained, folded, *trust, "--input", "2,3,256,256")
    run(
        "Fold trained CREPE, whose BatchNorms follow a ReLU",
        *("fold", str(crepe_tiny_weights()), "-o", crepe_folded, *crepe),
    )
    print(f"\nDemo finished in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
