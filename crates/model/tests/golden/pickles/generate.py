"""Writes the files beside it: `python generate.py`, with PyTorch 2.x and numpy. No tensor was trained."""

import argparse
import collections
import datetime
import io
import os
import pathlib
import pickle
import struct
import sys
import types
import zipfile

import numpy
import torch
from torch import nn

# The classes of torchxrayvision that its files name; the package itself is not needed to write them.
xrv = types.ModuleType("torchxrayvision.models")
sys.modules["torchxrayvision"] = types.ModuleType("torchxrayvision")
sys.modules["torchxrayvision.models"] = xrv


class _DenseLayer(nn.Sequential):
    def __init__(self):
        super().__init__()
        self.add_module("norm1", nn.BatchNorm2d(2))
        self.add_module("conv1", nn.Conv2d(2, 3, 1, bias=False))


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(collections.OrderedDict(conv0=nn.Conv2d(1, 2, 3), layer=_DenseLayer()))
        self.classifier = nn.Linear(3, 2)
        self.register_buffer("op_threshs", torch.tensor([0.25, 0.5]))
        self.pathologies = numpy.array(["Effusion", ""])
        self.weights_note = numpy.float64(0.5)


for cls in (_DenseLayer, DenseNet):
    cls.__module__ = "torchxrayvision.models"
    setattr(xrv, cls.__name__, cls)


class AttributeDict(dict):
    pass


class Trainer:
    """A class that nothing knows."""


# The modules that Lightning's pickles name.
parsing = types.ModuleType("pytorch_lightning.utilities.parsing")
for name in ("pytorch_lightning", "pytorch_lightning.utilities"):
    sys.modules[name] = types.ModuleType(name)
sys.modules[parsing.__name__] = parsing
parsing.AttributeDict = AttributeDict
AttributeDict.__module__ = parsing.__name__
Trainer.__module__ = "pytorch_lightning"
sys.modules["pytorch_lightning"].Trainer = Trainer


class Evil:
    def __reduce__(self):
        return (os.system, ("touch raygen-was-here",))


def weights():
    """Values that the tests know: multiples of a quarter, exact in every type."""
    return {
        "plain.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3) / 4,
        "half.weight": (torch.arange(6).reshape(2, 3) / 4).half(),
        "bfloat.weight": (torch.arange(6).reshape(2, 3) / 4).bfloat16(),
        "double.weight": torch.arange(6, dtype=torch.float64).reshape(2, 3) / 4,
        "turned.weight": (torch.arange(6, dtype=torch.float32).reshape(3, 2) / 4).t(),
        "sliced.weight": (torch.arange(40, dtype=torch.float32).reshape(5, 8) / 4)[1:4:2, 2:8:3],
        "repeated.weight": torch.tensor([[0.25], [0.5]]).expand(2, 3),
        "scalar": torch.tensor(1.5),
        "empty.weight": torch.zeros(0, 3),
        "steps": torch.tensor([7, 8]),
        "mask": torch.tensor([True, False]),
    }


def state_dict():
    state = collections.OrderedDict(weights())
    shared = torch.arange(8, dtype=torch.float32) / 4
    state["first.half"], state["second.half"] = shared[:4], shared[4:]
    state["tied.weight"] = state["plain.weight"]
    state["a.parameter"] = nn.Parameter(torch.tensor([0.25, 0.5]))
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    return state


def lightning():
    hyper = AttributeDict(
        learning_rate=1e-4,
        model_config={"layers": 2, "names": ("a", "b")},
        args=argparse.Namespace(path=pathlib.PosixPath("/data"), when=datetime.timedelta(days=1)),
        rate=numpy.float64(0.1),
        counts=numpy.arange(3),
        tags={"x", "y"},
        raw=b"\xff\x00",
        table=collections.defaultdict(list, a=[1, 2]),
        size=torch.Size([2, 3]),
        dtype=torch.float16,
        device=torch.device("cpu"),
        large=1 << 200,
    )
    tensor = torch.ones(3)
    return {
        "epoch": 3,
        "state_dict": state_dict(),
        "optimizer_states": [{"state": {0: {"step": torch.tensor(4.0), "exp_avg": tensor}}, "param_groups": [{"lr": 0.1}]}],
        # Lightning before 1.5 has classes as keys: named, and never called.
        "callbacks": {Trainer: {"best_model_score": torch.tensor(0.5)}},
        "hyper_parameters": hyper,
    }


def legacy(value, path):
    torch.save(value, path, _use_new_zipfile_serialization=False)


def repack(source, path, compression=zipfile.ZIP_STORED, **changed):
    """Copies an archive with some entries changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for entry in old.infolist():
            name = entry.filename.split("/", 1)[1]
            new.writestr(entry.filename, changed.get(name, old.read(entry.filename)))
        for name in changed.keys() - {entry.filename.split("/", 1)[1] for entry in old.infolist()}:
            new.writestr(f"{entry.filename.split('/', 1)[0]}/{name}", changed[name])


def python_2(path):
    """The legacy format as Python 2 wrote it: texts of bytes, long integers, an ordered dictionary of pairs, and a
    storage that is a view of another."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def tensor(view_offset):
        storage = text(b"storage") + b"ctorch.cuda\nFloatStorage\n" + text(b"1") + text(b"cuda:0") + b"K\x06"
        view = b"(" + text(b"view %d" % view_offset) + bytes([0x4B, view_offset]) + b"K\x03t"
        pid = b"(" + storage + view + b"tQ"
        return b"ctorch._utils\n_rebuild_tensor\n(" + pid + b"\x8a\x00" + b"\x8a\x01\x03\x85" + b"\x8a\x01\x01\x85" + b"tR"

    entries = b"".join(b"](" + text(name) + tensor(view) + b"e" for name, view in ((b"low", 0), (b"high", 3)))
    state = b"ccollections\nOrderedDict\n](" + entries + b"e\x85R"
    with open(path, "wb") as file:
        file.write(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2))
        file.write(pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2))
        file.write(b"\x80\x02}(" + text(b"epoch") + b"K\x05" + text(b"state_dict") + state + b"u.")
        file.write(b"\x80\x02](" + text(b"1") + b"e.")
        file.write(struct.pack("<q6f", 6, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5))


def main():
    os.chdir(pathlib.Path(__file__).parent)
    torch.manual_seed(0)
    torch.save(lightning(), "lightning.ckpt")
    legacy(lightning(), "lightning_legacy.ckpt")
    torch.save(state_dict(), "protocol_5.pth", pickle_protocol=5)
    torch.save(DenseNet(), "module.pt")
    legacy(DenseNet(), "module_legacy.pt")
    torch.save({"state_dict": {"weight": torch.ones(2)}, "extra": Evil()}, "evil.ckpt")
    legacy({"state_dict": {"weight": torch.ones(2)}, "extra": Evil()}, "evil_legacy.ckpt")
    torch.save({"state_dict": {"weight": torch.ones(2)}, "trainer": Trainer()}, "unknown_class.ckpt")
    small = io.BytesIO()
    torch.save({"weight": torch.tensor([0.25, 0.5])}, small)
    repack(small, "compressed.pth", zipfile.ZIP_DEFLATED)
    repack(small, "big_endian.pth", byteorder=b"big")
    repack(small, "script.pt", **{"constants.pkl": b"\x80\x02).", "code/a.py": b"pass"})
    python_2("python_2.pth.tar")


main()
