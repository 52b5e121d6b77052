"""Writes tiny DenseNets with random weights in the layouts that people have, and what PyTorch computes with them.

Needs torch, torchvision, torchxrayvision and safetensors; run in this folder. No weight here was trained, no image is a film.
"""

import re
from collections import OrderedDict

import torch
import torchvision
import torchxrayvision as xrv
from safetensors.torch import save_file
from torch import nn

CLASSES = 5
torch.manual_seed(20260)


def randomise(net):
    """Weights and running statistics that no layer can be left out of without a difference."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.1, 0.3)
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.3, 2.0)
            module.num_batches_tracked.fill_(7)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.bias, 0.0, 0.5)
    return net.eval()


def dotted(state):
    """The names of torchvision before 0.3, which CheXNet's file and torchvision's own downloads still have."""
    kept = ((name, value) for name, value in state.items() if "num_batches_tracked" not in name)
    return OrderedDict((re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name), value) for name, value in kept)


class CheXNet(nn.Module):
    """As in arnoweng's CheXNet: the head is a sequence of a linear map and a sigmoid."""

    def __init__(self, densenet121):
        super().__init__()
        self.densenet121 = densenet121
        head = densenet121.classifier
        self.densenet121.classifier = nn.Sequential(head, nn.Sigmoid())


def blotches(count, height, width):
    """Images that differ in the large, so that their features do."""
    coarse = nn.functional.interpolate(torch.rand(count, 1, 4, 4), (height, width), mode="bilinear")[:, 0]
    brightness = torch.linspace(0.3, 1.0, count)[:, None, None]
    return (255 * brightness * (0.8 * coarse + 0.2 * torch.rand(count, height, width))).to(torch.uint8)


def features(net, x):
    return torch.relu(net.features(x)).mean((2, 3))


def record(expected, prefix, net, x):
    expected[f"{prefix}.map"] = net.features(x)
    expected[f"{prefix}.features"] = features(net, x)
    expected[f"{prefix}.logits"] = net.classifier(features(net, x))


with torch.no_grad():
    images = blotches(3, 64, 64)
    # Sides for which no stage divides evenly.
    odd = blotches(1, 75, 61)
    unit, odd_unit = images[:, None] / 255, odd[:, None] / 255
    expected = {"images": images, "odd": odd}

    net = randomise(torchvision.models.DenseNet(4, (2, 2, 2, 2), 8, bn_size=4, num_classes=CLASSES))
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    record(expected, "torchvision", net, normalise(unit.expand(-1, 3, -1, -1)))
    # Another image in each channel, so that their order counts.
    colours = odd_unit * torch.tensor([1.0, 0.5, -1.0]).view(3, 1, 1)
    record(expected, "torchvision_odd", net, colours)
    torch.save(net.state_dict(), "torchvision.pth")
    parallel = nn.DataParallel(CheXNet(net))
    checkpoint = {"epoch": 3, "arch": "DenseNet-121", "state_dict": dotted(parallel.state_dict()), "best_loss": 0.2}
    torch.save(checkpoint, "chexnet.pth.tar")
    # PyTorch before 1.6, which wrote the files that people have, knew no zip.
    torch.save(checkpoint, "chexnet_legacy.pth.tar", _use_new_zipfile_serialization=False)

    net = randomise(xrv.models.DenseNet(4, (1, 3, 2, 2), 8, bn_size=2, num_classes=CLASSES))
    # Films of torchxrayvision run from -1024 to 1024.
    net.features.conv0.weight /= 512
    x = torch.stack([torch.from_numpy(xrv.utils.normalize(image.numpy(), 255))[None] for image in images])
    record(expected, "xrv", net, x)
    net.pathologies = net.targets = ["Atelectasis", "Consolidation", "", "Pneumothorax", "Edema"]
    # The distributed files: whole modules, from before there were thresholds.
    torch.save(net, "torchxrayvision_module.pt")
    net.op_threshs = torch.tensor([0.3, 0.05, float("nan"), 0.9, 0.5])
    expected["xrv.scores"] = net(x)
    torch.save(net.state_dict(), "torchxrayvision.pt")
    torch.save(net, "torchxrayvision_module_legacy.pt", _use_new_zipfile_serialization=False)

save_file({name: value.contiguous() for name, value in expected.items()}, "expected.safetensors")
