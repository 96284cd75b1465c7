"""Small networks of the kinds that are audited and that draw, in plain torch, with random weights."""

import torch
from torch import nn
from torch.nn import functional

CLASSES = 5


def seeded(make, seed=0):
    """In evaluation mode, frozen, with running statistics that are not the identity."""
    torch.manual_seed(seed)
    network = make().eval().requires_grad_(requires_grad=False)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            part.weight.normal_(1, 0.2)
    return network


class ResNetLike(nn.Module):
    """Strided stem, batch norm, overlapping max pool, residual block with a projection, mean."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(8)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.conv, self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(12)
        self.shortcut = nn.Conv2d(8, 12, 1, stride=2, bias=False)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        hidden = self.pool(self.relu(self.first(self.stem(x))))
        hidden = self.relu(self.second(self.conv(hidden)) + self.shortcut(hidden))
        return self.head(torch.flatten(functional.adaptive_avg_pool2d(hidden, 1), 1))


class MobileNetLike(nn.Module):
    """Depthwise convolution, hard swish, squeeze and excitation, ReLU6, average pool."""

    def __init__(self):
        super().__init__()
        self.expand, self.depthwise = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, CLASSES)

    def forward(self, x):
        hidden = functional.hardswish(self.depthwise(functional.hardswish(self.expand(x))))
        scale = self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(hidden, 1))))
        hidden = functional.relu6(self.norm(hidden * functional.hardsigmoid(scale)))
        return self.head(functional.avg_pool2d(hidden, 3, 2, 1).mean((2, 3)))


class SqueezeNetLike(nn.Module):
    """Max pools that hang over the edge, concatenated branches, classes from a convolution."""

    def __init__(self):
        super().__init__()
        self.stem, self.squeeze = nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(8, 4, 1)
        self.one, self.three = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1)
        self.classes = nn.Conv2d(12, CLASSES, 1)

    def forward(self, x):
        hidden = functional.max_pool2d(self.stem(x).relu(), 3, 2, ceil_mode=True)
        hidden = self.squeeze(hidden).relu()
        hidden = torch.cat([self.one(hidden).relu(), self.three(hidden).relu()], 1)
        hidden = functional.max_pool2d(hidden, 3, 2, ceil_mode=True)
        return functional.adaptive_avg_pool2d(self.classes(hidden).relu(), 1).flatten(1)


class ViTLike(nn.Module):
    """Patches, a class token for every row, positions, attention, GELU; images are resized to what it was trained on."""

    def __init__(self):
        super().__init__()
        self.patches, self.token, self.places = (
            nn.Conv2d(3, 8, 4, stride=4),
            nn.Parameter(torch.randn(1, 1, 8)),
            nn.Parameter(torch.randn(1, 10, 8)),
        )
        self.before, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.after, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.last, self.head = nn.LayerNorm(8), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = functional.interpolate(x, size=(12, 12), mode="bilinear", antialias=True, align_corners=False)
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.places
        q, k, v = (each.unflatten(-1, (2, 4)).transpose(1, 2) for each in self.qkv(self.before(tokens)).chunk(3, -1))
        tokens = tokens + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        tokens = tokens + self.down(functional.gelu(self.up(self.after(tokens))))
        return self.head(self.last(tokens)[:, 0])


class Everything(nn.Module):
    """One of each operator whose backward is written out, and of each that runtimes differ in."""

    def __init__(self):
        super().__init__()
        self.conv, self.group, self.batch = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8), nn.BatchNorm2d(8)
        self.qkv, self.out, self.layer = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        hidden = functional.silu(self.group(self.conv(x)))
        hidden = functional.max_pool2d(functional.relu(self.batch(hidden)), 3, 2, 1)
        hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
        hidden = functional.interpolate(functional.avg_pool2d(hidden, 2), size=(5, 5), mode="bilinear", align_corners=False)
        tokens = self.layer(hidden.flatten(2).transpose(1, 2))
        q, k, v = (each.unflatten(-1, (2, 4)).transpose(1, 2) for each in self.qkv(tokens).chunk(3, -1))
        tokens = tokens + self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        hidden = functional.gelu(tokens).transpose(1, 2).unflatten(2, (5, 5))
        return self.head(functional.adaptive_avg_pool2d(hidden, 2).mean((2, 3)))


class Denoiser(nn.Module):
    """Like a UNet2DConditionModel of one level: time embedding, group norms, self- and cross-attention, down, up, skip."""

    def __init__(self, width=16, *, itself=True):
        super().__init__()
        self.itself = itself
        self.enter, self.leave = nn.Conv2d(4, width, 3, padding=1), nn.Conv2d(2 * width, 4, 3, padding=1)
        self.time_embedding, self.norm = nn.Sequential(nn.Linear(8, width), nn.SiLU()), nn.GroupNorm(4, width)
        self.down, self.up = nn.Conv2d(width, width, 3, stride=2, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.ask, self.know, self.join = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.last = nn.GroupNorm(4, 2 * width)

    def forward(self, x, t, context):
        angles = t.float()[:, None] * torch.exp(-torch.arange(4, device=t.device) * 2.0)
        embedded = self.time_embedding(torch.cat([angles.sin(), angles.cos()], 1).to(x.dtype))
        entered = self.enter(x) + embedded[:, :, None, None]
        hidden = self.down(functional.silu(self.norm(entered)))
        tokens = hidden.flatten(2).transpose(1, 2)
        for seen in (tokens, context) if self.itself else (context,):
            q, (k, v) = self.ask(tokens), self.know(seen).chunk(2, -1)
            q, k, v = (each.unflatten(-1, (2, -1)).transpose(1, 2) for each in (q, k, v))
            tokens = tokens + self.join(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        hidden = functional.interpolate(tokens.transpose(1, 2).unflatten(2, hidden.shape[2:]), scale_factor=2.0, mode="nearest")
        return self.leave(functional.silu(self.last(torch.cat([self.up(hidden), entered], 1))))


class Decoder(nn.Module):
    """Latents (n 4 8 8) to images (n 3 16 16)."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.leave = nn.Conv2d(4, 8, 1), nn.GroupNorm(2, 8), nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, latents):
        return self.leave(functional.interpolate(functional.silu(self.norm(self.enter(latents))), scale_factor=2, mode="nearest"))


class Judge(nn.Module):
    """Images (n 3 16 16) to logits."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.Linear(8, CLASSES)

    def forward(self, images):
        return self.head(functional.max_pool2d(functional.relu(self.norm(self.conv(images))), 2).mean((2, 3)))


class Smooth(nn.Module):
    """A classifier without kinks, for precisions in which a kink is somewhere else: attention over four tokens (images n 3 4 4)."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 2, stride=2), nn.GroupNorm(2, 8), nn.Linear(8, CLASSES)

    def forward(self, images):
        tokens = functional.silu(self.norm(self.conv(images))).flatten(2).transpose(1, 2)
        return self.head(functional.scaled_dot_product_attention(tokens, tokens, tokens).mean(1))


def tiny_unet():
    """A UNet2DConditionModel of one level, as the denoiser above is called."""
    from diffusers import UNet2DConditionModel

    from engines.networks import UNetForward

    return UNetForward(
        UNet2DConditionModel(
            sample_size=8, block_out_channels=(16,), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16, attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D",), up_block_types=("UpBlock2D",), mid_block_type=None,
        )
    )  # fmt: skip


def tiny_decoder():
    """The decoder of an AutoencoderKL that doubles its latents once."""
    from diffusers import AutoencoderKL

    from engines.networks import VaeDecode

    return VaeDecode(
        AutoencoderKL(
            block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=16,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )  # fmt: skip
