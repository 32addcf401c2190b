"""GPT-2, BERT and Llama with the masks of a growth, in PyTorch: an implementation that shares nothing with the C++ one.

    python3 transformer.py FOLDER

For every FOLDER/NAME.case.safetensors (parameters under their names, the batch under input/, masks under mask/, the
sizes in the metadata) writes FOLDER/NAME.result.safetensors: loss, logits, sentence_logits, and the gradient of every
parameter under its name. Everything is computed in double.
"""
import json
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

DTYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64}


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        array = np.frombuffer(data[8 + length + begin : 8 + length + end], DTYPES[entry["dtype"]])
        tensors[name] = torch.from_numpy(array.reshape(entry["shape"]).copy())
    return tensors, metadata


def write_safetensors(path, tensors):
    header, chunks, end = {}, [], 0
    for name, tensor in sorted(tensors.items()):
        chunk = tensor.detach().double().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F64", "shape": list(tensor.shape), "data_offsets": [end, end + len(chunk)]}
        end += len(chunk)
        chunks.append(chunk)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def select(mask, x):
    """mask . x, 0 where the mask is 0 whatever x is."""
    return x if mask is None else torch.where(mask == 0, torch.zeros_like(x), mask * x)


class Norm(nn.Module):
    """LayerNorm (with a bias) or RMSNorm over masked units; without a mask, torch's own."""

    def __init__(self, gain, bias, eps, mask):
        super().__init__()
        self.gain, self.bias, self.eps, self.mask = gain, bias, eps, mask

    def forward(self, x):
        if self.mask is None:
            if self.bias is not None:
                return F.layer_norm(x, x.shape[-1:], self.gain, self.bias, self.eps)
            return self.gain * x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        total = self.mask.sum()
        centre = 0
        if self.bias is not None:
            centre = select(self.mask, x).sum(-1, keepdim=True) / total
        spread = select(self.mask, (x - centre).pow(2)).sum(-1, keepdim=True) / total
        y = self.gain * (x - centre) / torch.sqrt(spread + self.eps)
        return select(self.mask, y if self.bias is None else y + self.bias)


def rotate_half(x):
    low, high = x.chunk(2, -1)
    return torch.cat((-high, low), -1)


class Transformer(nn.Module):
    def __init__(self, tensors, sizes):
        super().__init__()
        self.sizes = sizes
        self.arch = sizes["arch"]
        self.masks = {n[5:]: t.double() for n, t in tensors.items() if n.startswith("mask/")}
        self.names = [n for n in tensors if not n.startswith(("mask/", "input/"))]
        for n in self.names:
            self.register_parameter(n.replace(".", "/"), nn.Parameter(tensors[n].double()))

    def weight(self, name, layer=None):
        found = self._parameters.get(name.replace(".", "/"))
        return found if found is None or layer is None else found[layer]

    def mask(self, name):
        return self.masks.get(name)

    def norm(self, name, x, layer=None):
        gain, bias = self.weight(name + ".weight", layer), self.weight(name + ".bias", layer)
        return Norm(gain, bias, self.sizes["norm_eps"], self.mask("hidden"))(x)

    def linear(self, name, x, layer=None):
        weight, bias = self.weight(name + ".weight", layer), self.weight(name + ".bias", layer)
        if self.arch == "gpt2":  # Conv1D
            return x @ weight + bias
        return F.linear(x, weight, bias)

    def rotary(self, x):
        """x is (B, heads, T, D)"""
        dim = x.shape[-1]
        frequencies = self.sizes["rope_theta"] ** (-torch.arange(0, dim, 2).double() / dim)
        angles = torch.outer(torch.arange(x.shape[2]).double(), frequencies)
        angles = torch.cat((angles, angles), -1)
        return x * angles.cos() + rotate_half(x) * angles.sin()

    def attend(self, queries, keys, values, lengths):
        """queries (B, T, H D), keys and values (B, T, K D)"""
        heads, kv_heads, dim = self.sizes["heads"], self.sizes["kv_heads"], self.sizes["head_dim"]
        tokens = queries.shape[1]
        q = queries.unflatten(-1, (heads, dim)).transpose(1, 2)
        k = keys.unflatten(-1, (kv_heads, dim)).transpose(1, 2)
        v = values.unflatten(-1, (kv_heads, dim)).transpose(1, 2)
        released = self.sizes["released"]
        mask = self.mask("heads")
        if released and mask is not None:
            kv_mask = self.mask("kv_heads") if kv_heads != heads else mask
            q = select(mask[:, None, None], q)
            if kv_mask is not None:
                k, v = select(kv_mask[:, None, None], k), select(kv_mask[:, None, None], v)
        if self.arch == "llama":
            q, k = self.rotary(q), self.rotary(k)
        k = k.repeat_interleave(heads // kv_heads, 1)
        v = v.repeat_interleave(heads // kv_heads, 1)
        scores = q @ k.transpose(-1, -2) / dim**0.5
        places = torch.arange(tokens)
        open_ = torch.ones(1, 1, tokens, tokens, dtype=torch.bool)
        if self.arch != "bert":
            open_ = (places[None, :] <= places[:, None])[None, None]
        if lengths is not None:
            open_ = open_ & (places[None, :] < lengths[:, None])[:, None, None, :]
        out = scores.masked_fill(~open_, float("-inf")).softmax(-1) @ v
        if not released and mask is not None:
            out = select(mask[:, None, None], out)
        return out.transpose(1, 2).flatten(-2)

    def ffn(self, before, function):
        mask = self.mask("ffn")
        if self.sizes["released"]:
            return function(*(select(mask, x) for x in before))
        return select(mask, function(*before))

    def gate(self, layer):
        gates = self.mask("layers")
        return 1.0 if gates is None else float(gates[layer])

    def logits(self, x, head, bias=None):
        y = x @ head.T
        if bias is not None:
            y = y + bias
        mask = self.mask("vocab")
        return y if mask is None else torch.where(mask == 0, torch.full_like(y, float("-inf")), y + mask.log())

    def gpt2(self, tokens, lengths):
        x = self.weight("wte.weight")[tokens] + self.weight("wpe.weight")[: tokens.shape[1]]
        for layer in range(self.sizes["layers"]):
            g = self.gate(layer)
            if g == 0:
                continue
            qkv = self.linear("h.*.attn.c_attn", self.norm("h.*.ln_1", x, layer), layer)
            y = x + g * self.linear("h.*.attn.c_proj", self.attend(*qkv.chunk(3, -1), lengths), layer)
            read = x if self.sizes["parallel"] else y
            before = self.linear("h.*.mlp.c_fc", self.norm("h.*.ln_2", read, layer), layer)
            after = self.ffn((before,), lambda h: F.gelu(h, approximate="tanh"))
            x = y + g * self.linear("h.*.mlp.c_proj", after, layer)
        return self.logits(self.norm("ln_f", x), self.weight("wte.weight"))

    def llama(self, tokens, lengths):
        x = self.weight("model.embed_tokens.weight")[tokens]
        for layer in range(self.sizes["layers"]):
            g = self.gate(layer)
            if g == 0:
                continue
            p = "model.layers.*."
            n = self.norm(p + "input_layernorm", x, layer)
            qkv = (self.linear(p + f"self_attn.{part}_proj", n, layer) for part in "qkv")
            x = x + g * self.linear(p + "self_attn.o_proj", self.attend(*qkv, lengths), layer)
            n = self.norm(p + "post_attention_layernorm", x, layer)
            if self.weight(p + "block_sparse_moe.gate.weight") is not None:
                x = x + g * self.mixture(p + "block_sparse_moe.", n, layer)
                continue
            before = (self.linear(p + "mlp.gate_proj", n, layer), self.linear(p + "mlp.up_proj", n, layer))
            after = self.ffn(before, lambda gate, up: F.silu(gate) * up)
            x = x + g * self.linear(p + "mlp.down_proj", after, layer)
        head = self.weight("lm_head.weight")
        return self.logits(self.norm("model.norm", x), self.weight("model.embed_tokens.weight") if head is None else head)

    def mixture(self, p, n, layer):
        """Every expert on every token, and a softmax over the chosen ones."""
        logits = self.linear(p + "gate", n, layer)
        mask = self.mask("experts")
        if mask is not None:
            logits = torch.where(mask == 0, torch.full_like(logits, float("-inf")), logits + mask.log())
        least = logits.topk(self.sizes["chosen"], -1).values[..., -1:]
        gates = logits.masked_fill(logits < least, float("-inf")).softmax(-1)
        total = 0
        for e in range(gates.shape[-1]):
            w1, w2, w3 = (self.weight(p + f"experts.*.w{i}.weight", layer)[e] for i in (1, 2, 3))
            after = self.ffn((n @ w1.T, n @ w3.T), lambda gate, up: F.silu(gate) * up)
            total = total + gates[..., e : e + 1] * (after @ w2.T)
        return total

    def bert(self, tokens, types, lengths):
        e = "bert.embeddings."
        x = self.weight(e + "word_embeddings.weight")[tokens] + self.weight(e + "token_type_embeddings.weight")[types]
        x = self.norm(e + "LayerNorm", x + self.weight(e + "position_embeddings.weight")[: tokens.shape[1]])
        for layer in range(self.sizes["layers"]):
            g = self.gate(layer)
            if g == 0:
                continue
            p = "bert.encoder.layer.*."
            qkv = (self.linear(p + "attention.self." + part, x, layer) for part in ("query", "key", "value"))
            y = self.linear(p + "attention.output.dense", self.attend(*qkv, lengths), layer)
            y = self.norm(p + "attention.output.LayerNorm", y + x, layer)
            after = self.ffn((self.linear(p + "intermediate.dense", y, layer),), F.gelu)
            y = self.norm(p + "output.LayerNorm", self.linear(p + "output.dense", after, layer) + y, layer)
            x = g * y + (1 - g) * x
        pooled = select(self.mask("hidden"), torch.tanh(self.linear("bert.pooler.dense", x[:, 0])))
        t = self.norm("cls.predictions.transform.LayerNorm", F.gelu(self.linear("cls.predictions.transform.dense", x)))
        logits = self.logits(t, self.weight(e + "word_embeddings.weight"), self.weight("cls.predictions.bias"))
        return logits, self.linear("cls.seq_relationship", pooled)


def result(tensors, metadata):
    sizes = {k: v if k == "arch" else float(v) if k in ("norm_eps", "rope_theta") else int(v) for k, v in metadata.items()}
    model = Transformer(tensors, sizes)
    tokens, targets = tensors["input/tokens"], tensors["input/targets"]
    lengths = tensors.get("input/lengths")
    out = {}
    if model.arch == "bert":
        logits, sentences = model.bert(tokens, tensors["input/types"], lengths)
        labels = tensors["input/next_sentence"]
        loss = F.cross_entropy(sentences[labels >= 0], labels[labels >= 0])
        out["sentence_logits"] = sentences
        counted = targets >= 0
        out["logits"] = logits[counted]
        loss = loss + F.cross_entropy(logits[counted], targets[counted])
    else:
        logits = getattr(model, model.arch)(tokens, lengths)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
        out["logits"] = logits.flatten(0, 1)
    loss.backward()
    out["loss"] = loss.reshape(1)
    for name in model.names:
        gradient = model.weight(name).grad
        out[name] = torch.zeros_like(model.weight(name)) if gradient is None else gradient
    return out


if __name__ == "__main__":
    torch.set_num_threads(1)  # the models are tiny
    for case in sorted(pathlib.Path(sys.argv[1]).glob("*.case.safetensors")):
        write_safetensors(case.with_name(case.name.replace(".case.", ".result.")), result(*read_safetensors(case)))
