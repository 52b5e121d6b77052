"""The same steps in PyTorch: `train_steps.py CONFIG tokenizer|transformer WARM_UP STEPS` prints JSON.

Networks, losses, optimiser and averages are those of the trainer; weights are random, films are noise.
"""
import json
import math
import sys
import time
import tomllib

import torch
import torch.nn.functional as F
from torch import nn

TEXT_LENGTH, VOCABULARY = 16, 64


# The VQ-GAN (taming-transformers).
class ResidualBlock(nn.Module):
    def __init__(self, groups, inputs, outputs):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(groups, inputs, eps=1e-6), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(groups, outputs, eps=1e-6), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class AttentionBlock(nn.Module):
    def __init__(self, groups, channels):
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.q, self.k, self.v, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        b, c, h, w = x.shape
        n = self.norm(x)
        q, k, v = (conv(n).reshape(b, 1, c, h * w).transpose(2, 3) for conv in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(b, c, h, w))


class Down(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class VqGan(nn.Module):
    def __init__(self, model):
        super().__init__()
        ch, mult, blocks, g = model["channels"], model["channel_multipliers"], model["residual_blocks"], model["norm_groups"]
        z, e = model["z_channels"], model["embed_dim"]
        inner = ch * mult[-1]

        def middle():
            return [ResidualBlock(g, inner, inner), AttentionBlock(g, inner), ResidualBlock(g, inner, inner)]

        encoder, inputs = [nn.Conv2d(1, ch, 3, padding=1)], ch
        for level, m in enumerate(mult):
            for _ in range(blocks):
                encoder.append(ResidualBlock(g, inputs, ch * m))
                inputs = ch * m
            if level + 1 < len(mult):
                encoder.append(Down(inputs))
        encoder += middle() + [nn.GroupNorm(g, inner, eps=1e-6), nn.SiLU(), nn.Conv2d(inner, z, 3, padding=1), nn.Conv2d(z, e, 1)]
        decoder, inputs = [nn.Conv2d(e, z, 1), nn.Conv2d(z, inner, 3, padding=1), *middle()], inner
        for level in reversed(range(len(mult))):
            for _ in range(blocks + 1):
                decoder.append(ResidualBlock(g, inputs, ch * mult[level]))
                inputs = ch * mult[level]
            if level > 0:
                decoder.append(Up(inputs))
        decoder += [nn.GroupNorm(g, inputs, eps=1e-6), nn.SiLU(), nn.Conv2d(inputs, 1, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)
        self.codes = nn.Parameter(torch.randn(model["codebook_size"], e), requires_grad=False)


def structure(ours, target):
    d, total = ours - target, 0.0
    for scale in range(3):
        if scale:
            d = F.avg_pool2d(d, 2)
        total = total + d.diff(dim=3).abs().mean() + d.diff(dim=2).abs().mean()
    return total / 3


class Optimiser:
    """AdamW, clipping, an average of the weights."""

    def __init__(self, module, config):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in self.parameters if p.dim() >= 2], "weight_decay": config.get("weight_decay", 0.0)},
            {"params": [p for p in self.parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=config["learning_rate"], betas=(0.9, config.get("beta2", 0.99)), foreach=True)
        self.average = [p.detach().clone() for p in self.parameters]
        self.decay = config.get("ema_decay", 0.0)

    def step(self, loss):
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.adam.step()
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1.0 - self.decay)


def tokenizer(config):
    section = config["tokenizer"]
    network, side = VqGan(section["model"]), config["data"]["image_size"]
    optimiser = Optimiser(network, section["optimiser"])
    images = torch.rand(section["batch"], 1, side, side) * 2 - 1
    counts, sums = torch.ones(network.codes.shape[0]), network.codes.clone()

    def step():
        latent = network.encoder(images)
        with torch.no_grad():
            rows = latent.permute(0, 2, 3, 1).reshape(-1, latent.shape[1])
            distances = rows.square().sum(1, keepdim=True) - 2 * rows @ network.codes.T + network.codes.square().sum(1)
            ids = distances.argmin(1)
            quantised = network.codes[ids].reshape(latent.shape[0], *latent.shape[2:], -1).permute(0, 3, 1, 2)
        back = network.decoder(latent + (quantised - latent).detach())
        loss = (back - images).abs().mean() + 0.5 * structure(back, images) + 0.25 * (latent - quantised).square().mean()
        optimiser.step(loss)
        with torch.no_grad():
            counts.mul_(0.98).index_add_(0, ids, torch.full((len(ids),), 0.02))
            sums.mul_(0.98).index_add_(0, ids, rows, alpha=0.02)
            network.codes.copy_(sums / counts.unsqueeze(1))
        return loss.item()

    return network, section["batch"], step


# The masked transformer (the `raygen` variant) and its text encoder.
class Attention(nn.Module):
    def __init__(self, width, heads, qk_norm):
        super().__init__()
        self.heads, self.width = heads, width
        self.proj, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x, source=None, mask=None):
        w = self.width
        if source is None:
            q, k, v = self.proj(x).chunk(3, -1)
        else:
            q = F.linear(x, self.proj.weight[:w], self.proj.bias[:w])
            k, v = F.linear(source, self.proj.weight[w:], self.proj.bias[w:]).chunk(2, -1)
        mixed = F.scaled_dot_product_attention(self.q_norm(self.split(q)), self.k_norm(self.split(k)), self.split(v), mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.own, self.cross = Attention(width, heads, True), Attention(width, heads, True)
        self.linear1, self.linear2 = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x, text, mask):
        x = x + self.own(self.norm1(x))
        x = x + self.cross(self.norm2(x), text, mask)
        a, b = self.linear1(self.norm3(x)).chunk(2, -1)
        return x + self.linear2(F.gelu(a) * b)


class BertLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention, self.norm1 = Attention(width, heads, False), nn.LayerNorm(width, eps=1e-12)
        self.up, self.down, self.norm2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.LayerNorm(width, eps=1e-12)

    def forward(self, x, mask):
        x = self.norm1(x + self.attention(x, mask=mask))
        return self.norm2(x + self.down(F.gelu(self.up(x))))


class Networks(nn.Module):
    def __init__(self, section, codes, positions):
        super().__init__()
        model, text = section["model"], section["text"]
        width = model["width"]
        self.words = nn.Embedding(VOCABULARY, text["width"])
        self.places = nn.Parameter(torch.randn(text["max_tokens"], text["width"]) * 0.02)
        self.kind = nn.Parameter(torch.randn(text.get("types", 1), text["width"]) * 0.02)
        self.words_norm = nn.LayerNorm(text["width"], eps=1e-12)
        self.bert = nn.ModuleList(BertLayer(text["width"], text["heads"]) for _ in range(text["layers"]))
        self.tokens = nn.Embedding(codes + 1, width)
        self.positions = nn.Parameter(torch.randn(1, positions, width) * 0.02)
        self.text_norm, self.text_projector = nn.LayerNorm(text["width"]), nn.Linear(text["width"], width)
        self.layers = nn.ModuleList(Layer(width, model["heads"], model["feed_forward"]) for _ in range(model["layers"]))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)

    def forward(self, ids, text_ids, mask):
        t = self.words_norm(self.words(text_ids) + self.kind[0] + self.places[: text_ids.shape[1]])
        for layer in self.bert:
            t = layer(t, mask)
        t = self.text_projector(self.text_norm(t))
        x = self.tokens(ids) + self.positions
        for layer in self.layers:
            x = layer(x, t, mask)
        return self.head(self.norm(x))


def transformer(config):
    section, model = config["transformer"], config["tokenizer"]["model"]
    grid = config["data"]["image_size"] >> (len(model["channel_multipliers"]) - 1)
    codes, batch = model["codebook_size"], section["batch"]
    network = Networks(section, codes, grid * grid)
    optimiser = Optimiser(network, section["optimiser"])
    ids, targets = (torch.randint(codes, (batch, grid * grid)) for _ in range(2))
    text = torch.randint(VOCABULARY, (batch, TEXT_LENGTH))
    mask = torch.zeros(batch, 1, 1, TEXT_LENGTH)

    def step():
        logits = network(ids, text, mask).flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten(), label_smoothing=section.get("label_smoothing", 0.1))
        optimiser.step(loss)
        return loss.item()

    return network, batch, step


def main():
    path, stage, warm_up, steps = sys.argv[1:]
    with open(path, "rb") as file:
        config = tomllib.load(file)
    torch.manual_seed(0)
    network, films, step = {"tokenizer": tokenizer, "transformer": transformer}[stage](config)

    def timed(count):
        seconds = []
        for _ in range(int(count)):
            begun = time.perf_counter()
            assert math.isfinite(step())
            seconds.append(time.perf_counter() - begun)
        return seconds

    timed(warm_up)
    parameters = sum(p.numel() for p in network.parameters())
    print(json.dumps({"stage": stage, "films": films, "parameters": parameters, "seconds": timed(steps), "torch": torch.__version__}))


main()
