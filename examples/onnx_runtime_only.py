"""Run an exported model with neither leanet nor torch.

Usage: python onnx_runtime_only.py MODEL.onnx PICTURE ...

It needs onnxruntime, numpy and pillow. The graph takes pixels of any size; it resizes them and makes the maps.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model_path: str, *pictures: str) -> None:
    """Print each picture's probability, decision and strongest pixel of the heat map."""
    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    card = json.loads(session.get_modelmeta().custom_metadata_map["leanet"])
    (pixels,) = session.get_inputs()
    familiar = card.get("familiar_distances")  # percentiles of the distances of familiar pictures
    for picture in pictures:
        image = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")  # sRGB; (H, W, 3), uint8
        outputs = ["probability", "anomaly_map", "heat", *(["distance"] if familiar else [])]
        probability, anomaly_map, heat, *distance = session.run(outputs, {pixels.name: np.asarray(image)})
        if familiar and distance[0] > familiar[98]:
            decision = "unfamiliar"
        elif card["adn"]:
            decision = "anomalous" if probability >= card["threshold"] else "normal"
        else:  # a model of normal pictures only decides by the map's mean
            decision = "anomalous" if anomaly_map.mean() >= card["map_threshold"] else "normal"
        place = "row {}, column {}".format(*np.unravel_index(heat.argmax(), heat.shape)) + f" of {heat.shape[0]}"
        print(f"{picture}: {decision}, probability {probability:.3f}, heat up to {heat.max():.1f} at {place}")


if __name__ == "__main__":
    main(*sys.argv[1:])
