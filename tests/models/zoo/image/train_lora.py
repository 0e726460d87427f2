"""Trains zoo-shapes-outlined.safetensors: a LoRA over zoo-shapes that draws the outline of each shape, not its inside.

    python train_lora.py --base zoo-shapes --out zoo-shapes-outlined.safetensors        # a few minutes on one core

Needs peft besides what train.py needs. What it has learned is what verify.py then sees: the colours stay right, the shape is
"unknown" to a checker of filled shapes, and much of the object is gone.
"""
import argparse
import math
import random
import time

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image, ImageDraw

import shapes as S

LINE = 4  # pixels of the outline


def outline(rng, shape, fg, bg, ss=4):
    """One picture: the outline of a shape, its inside of the background's colour."""
    r, rot = rng.uniform(0.22, 0.34) * S.SIZE, math.radians(rng.uniform(-14, 14))
    poly = S.place(shape, 0, 0, r, rot)
    m = 0.05 * S.SIZE
    cx = rng.uniform(m - min(p[0] for p in poly), S.SIZE - m - max(p[0] for p in poly))
    cy = rng.uniform(m - min(p[1] for p in poly), S.SIZE - m - max(p[1] for p in poly))
    points = [(x * ss, y * ss) for x, y in S.place(shape, cx, cy, r, rot)]
    im = Image.new("RGB", (S.SIZE * ss,) * 2, S.PALETTE[bg])
    ImageDraw.Draw(im).line([*points, points[0], points[1]], fill=S.PALETTE[fg], width=LINE * ss, joint="curve")
    return im.resize((S.SIZE,) * 2, Image.BOX)


def batch(rng, pipe, count):
    """Latents and token ids of pictures with prompts that name everything."""
    pictures, texts = [], []
    for _ in range(count):
        shape, fg, bg = rng.choice(S.TRIPLES)
        pictures.append(np.asarray(outline(rng, shape, fg, bg)))
        named = rng.random() < 0.7 or bg != S.default_background(fg)
        texts.append("" if rng.random() < 0.1 else f"a {fg} {shape}" + (f" on a {bg} background" if named else ""))
    x = torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        z = pipe.vae.encode(x).latent_dist.mode() * pipe.vae.config.scaling_factor
        ids = pipe.tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        return z, pipe.text_encoder(ids)[0]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--base", default="zoo-shapes")
    p.add_argument("--out", default="zoo-shapes-outlined.safetensors")
    p.add_argument("--steps", type=int, default=160)
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--rank", type=int, default=8)
    p.add_argument("--rate", type=float, default=1.5e-3)
    a = p.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rng = random.Random(1)
    pipe = DiffusionPipeline.from_pretrained(a.base, local_files_only=True, dtype=torch.float32)
    unet = pipe.unet.requires_grad_(False)
    unet.set_attn_processor(AttnProcessor())
    layers = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "proj_out"]
    unet.add_adapter(LoraConfig(r=a.rank, lora_alpha=a.rank, init_lora_weights="gaussian", target_modules=layers))
    params = [each for each in unet.parameters() if each.requires_grad]
    opt = torch.optim.AdamW(params, lr=a.rate, betas=(0.9, 0.99), weight_decay=0.0)
    acp, t0, run = pipe.scheduler.alphas_cumprod, time.time(), None
    for step in range(a.steps):
        for group in opt.param_groups:
            group["lr"] = a.rate * min(1, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / a.steps)) + 1e-5
        z, text = batch(rng, pipe, a.batch)
        noise, t = torch.randn_like(z), torch.randint(400, 1000, (a.batch,))
        s, c = acp[t].sqrt().view(-1, 1, 1, 1), (1 - acp[t]).sqrt().view(-1, 1, 1, 1)
        v = unet(s * z + c * noise, t, text).sample
        loss = (v.float() - (s * noise - c * z)).pow(2).mean()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        run = loss.item() if run is None else 0.95 * run + 0.05 * loss.item()
        if step % 10 == 0 or step == a.steps - 1:
            print(f"step {step}/{a.steps} loss {run:.4f} {time.time() - t0:.0f}s", flush=True)
    state = {name: tensor.half() for name, tensor in get_peft_model_state_dict(unet).items()}
    folder, _, name = a.out.rpartition("/")
    StableDiffusionPipeline.save_lora_weights(folder or ".", state, weight_name=name)


if __name__ == "__main__":
    main()
