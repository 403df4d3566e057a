"""Guide a CNN of your own: `python attention_in_your_cnn.py MODEL NORMAL_PICTURE ANOMALOUS_PICTURE`."""

import sys

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from leanet import external_attention, load


class GuidedCNN(nn.Module):
    """Takes images (N, 3, H, W) and anomaly maps (N, 1, H, W); gives logits (N, 2) and attention (N, 1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.early, self.guide = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU()), nn.Conv2d(1, 8, 3, 2, 1)
        self.late = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))

    def forward(self, images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        features, attention = external_attention(self.early(images), self.guide(maps))
        return self.late(features), attention


model = load(sys.argv[1])
maps = torch.stack([torch.from_numpy(result.anomaly_map)[None] for result in model.predict(sys.argv[2:])])
size = (maps.shape[3], maps.shape[2])
pixels = [np.array(Image.open(path).convert("RGB").resize(size)) for path in sys.argv[2:]]
images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
network, labels = GuidedCNN(), torch.tensor([0, 1])
optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
for step in range(31):
    optimizer.zero_grad()
    logits, attention = network(images, maps / maps.mean())
    loss = nn.functional.cross_entropy(logits, labels)
    torch.autograd.backward(loss)
    optimizer.step()
    print(f"step {step}: loss {loss:.3f}, features times {1 + attention.min():.2f}..{1 + attention.max():.2f}")
