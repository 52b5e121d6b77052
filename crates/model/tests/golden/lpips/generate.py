"""A narrow LPIPS with random weights in the layouts that people have, and what the `lpips` package computes with it.

    pip install torch torchvision lpips safetensors && python generate.py
"""
from pathlib import Path

import lpips
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
WIDTHS = [4, 6, 8, 8, 8]

torch.manual_seed(11)
network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False, use_dropout=True)
inputs = 3
for index, width in enumerate(WIDTHS):
    part = getattr(network.net, f"slice{index + 1}")
    for name, layer in list(part.named_children()):
        if isinstance(layer, nn.Conv2d):
            setattr(part, name, nn.Conv2d(inputs, width, 3, padding=1))
            inputs = width
    getattr(network, f"lin{index}").model[1] = nn.Conv2d(width, 1, 1, bias=False)
    getattr(network, f"lin{index}").model[1].weight.data.uniform_(0, 1)
    network.lins[index] = getattr(network, f"lin{index}")
network.eval()

state = network.state_dict()
features = {".".join(["features", *name.split(".")[2:]]): value for name, value in state.items() if name.startswith("net.slice")}
linear = {name: value for name, value in state.items() if name.startswith("lin") and not name.startswith("lins")}
torch.save(features, HERE / "vgg16.pth")
torch.save(linear, HERE / "linear.pth")
torch.save({"state_dict": {f"loss.perceptual_loss.{name}": value for name, value in state.items()}}, HERE / "taming.ckpt")

ours = torch.rand(2, 3, 32, 40) * 2 - 1
theirs = torch.rand(2, 3, 32, 40) * 2 - 1
ours.requires_grad_()
distance = network(ours, theirs).flatten()
distance.sum().backward()
save_file({"ours": ours.detach(), "theirs": theirs, "distance": distance.detach(), "gradient": ours.grad}, HERE / "expected.safetensors")
print(torch.__version__, lpips.__version__ if hasattr(lpips, "__version__") else "", distance)
