"""RGB to Lab, and ΔE00 to a recolored version: milliseconds per image, against scikit-image in float32.

    python -m benchmarks.color --images plantvillage_potato

The bar: 10 times as fast at 256 px, and within 1e-3 of the exact numbers on real images. The script times leanet's
function from 8-bit pixels to the anomaly map, with a colorizer that costs nothing: it returns each image's own
chrominance, mirrored. The exact numbers are scikit-image's in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab
from torch import Tensor, nn

from benchmarks.baseline import delta_e, lab_and_delta_e
from benchmarks.common import BASELINE, OURS, alternate, apart, facts, report, seconds_an_image, verdict
from benchmarks.ours import batches_of, best_compute, open_images, timing_parser
from leanet.color.anomaly_map import anomaly_map
from leanet.color.lab import encode_lab, rgb_to_lab
from leanet.data.tensors import images_to_tensor
from leanet.maps.sources.color import recolour
from leanet.training.compute import fused

BAR, LARGEST_DEVIATION = 10.0, 1e-3


class Recorded(nn.Module):
    """A colorizer that returns a fixed chrominance, (N, 2, H, W), for any input."""

    def __init__(self, chrominance: Tensor) -> None:
        super().__init__()
        self.chrominance = chrominance

    def forward(self, lightness: Tensor) -> Tensor:  # noqa: ARG002
        return self.chrominance


def largest_deviations(
    pixels: NDArray[np.uint8], chrominance: NDArray[np.float32], lab: NDArray[np.float32], maps: NDArray[np.float32]
) -> tuple[float, float]:
    """Largest deviations of Lab (N, 3, H, W) and of maps (N, H, W) from float64, over all images."""
    in_lab = in_maps = 0.0
    for rgb, ab, our_lab, our_map in zip(pixels, chrominance, lab, maps, strict=True):
        exact = rgb2lab(rgb / np.float64(255))
        recoloured = np.dstack([exact[..., :1], ab.transpose(1, 2, 0).astype(np.float64) * 255 - 128])
        in_lab = max(in_lab, float(np.abs(our_lab.transpose(1, 2, 0) - exact).max()))
        in_maps = max(in_maps, float(np.abs(our_map - delta_e(exact, recoloured)).max()))
    return in_lab, in_maps


def plain(rgb: NDArray[np.float32], recoloured_lab: NDArray[np.float32]) -> Callable[[], None]:
    """The baseline's work on images (N, H, W, 3) and their recolored versions in Lab."""

    def work() -> None:
        for image, other in zip(rgb, recoloured_lab, strict=True):
            lab_and_delta_e(image, other)

    return work


def main() -> None:
    """Time both alternately, then compare with the exact numbers."""
    arguments = timing_parser(__doc__, "color", batch=32).parse_args()
    machine = facts()
    with open_images(arguments) as images:
        compute = best_compute(compiled=True)
        rows = images.choose(np.arange(len(images.run.images)), arguments)
        pixels = np.array(images.run.pixels[rows])
    lab = fused(rgb_to_lab)(images_to_tensor(pixels, np.arange(len(rows))).to(compute.device)).cpu()
    chrominance = encode_lab(lab)[:, 1:].flip(3)
    batches = batches_of(np.arange(len(rows)), arguments.batch)
    colorizers = [Recorded(chrominance[batch]).to(compute.device) for batch in batches]

    recoloured = torch.cat([lab[:, :1], chrominance * 255 - 128], 1)
    rgb_plain = pixels / np.float32(255)
    recoloured_plain = np.ascontiguousarray(recoloured.movedim(1, -1).numpy())

    def our_maps() -> list[Tensor]:
        return [
            recolour(colorizer, rgb.to(compute.device), compiled=True)[0].cpu()
            for colorizer, batch in zip(colorizers, batches, strict=True)
            for rgb in [torch.from_numpy(pixels[batch]).permute(0, 3, 1, 2)]
        ]

    def ours() -> dict[str, float]:
        n = len(rows)
        return {
            OURS: seconds_an_image(our_maps, n),
            "leanet.color.lab.rgb_to_lab by itself": seconds_an_image(
                lambda: [
                    fused(rgb_to_lab)(images_to_tensor(pixels, batch).to(compute.device)) for batch in batches
                ],
                n,
            ),
            "leanet.color.anomaly_map by itself": seconds_an_image(
                lambda: [
                    fused(anomaly_map)(lab[b].to(compute.device), recoloured[b].to(compute.device)) for b in batches
                ],
                n,
            ),
        }

    with apart(plain, rgb_plain, recoloured_plain) as baseline:
        times = alternate(lambda: {BASELINE: baseline() / len(rows)}, ours, arguments.rounds)
    maps = torch.cat(our_maps())[:, 0].numpy()
    in_lab, in_maps = largest_deviations(pixels, chrominance.numpy(), lab.numpy(), maps)
    largest = max(in_lab, in_maps)
    print(
        f"largest deviation from float64 over {len(rows)} images: Lab {in_lab:.1e}, ΔE00 {in_maps:.1e} "
        f"({verdict(largest <= LARGEST_DEVIATION)}: {LARGEST_DEVIATION:g})"
    )
    settings = {"side": arguments.side, "lab_deviation": in_lab, "delta_e_deviation": in_maps}
    report(times, BAR, arguments.csv, machine, **settings)


if __name__ == "__main__":
    main()
