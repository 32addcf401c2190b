#!/usr/bin/python3
"""Tokens per second of a full training step beside PyTorch's, interleaved in one run.

Configuration B of the project's CPU measurements: GPT-2 architecture, 4 layers, hidden 256, 4 heads, FFN 1024, T 128,
batch 16, byte vocabulary, float32, AdamW. Usage: peers.py PEERS_STEP_BINARY CSV [ROUNDS]
Needs Debian's python3-torch (/usr/bin/python3). PyTorch is given what it needs to be fast: two threads, AVX-512 code
paths, the OpenMP OpenBLAS if installed. Each round runs both trainers one after the other; the table gives the fastest
and the median step of each, and their ratio.
"""
import csv
import os
import statistics
import subprocess
import sys
import time

LAYERS, HIDDEN, HEADS, FFN, TOKENS, BATCH, VOCAB = 4, 256, 4, 1024, 128, 16, 256
STEPS = 8


def torch_worker():
    import torch
    import torch.nn.functional as F
    from torch import nn

    torch.set_num_threads(int(os.environ["PEERS_THREADS"]))
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(HIDDEN), nn.LayerNorm(HIDDEN)
            self.c_attn, self.c_proj = nn.Linear(HIDDEN, 3 * HIDDEN), nn.Linear(HIDDEN, HIDDEN)
            self.c_fc, self.c_out = nn.Linear(HIDDEN, FFN), nn.Linear(FFN, HIDDEN)
            self.register_buffer("mask", torch.triu(torch.full((TOKENS, TOKENS), float("-inf")), diagonal=1))

        def forward(self, x):
            b, t, c = x.shape
            q, k, v = (y.view(b, t, HEADS, c // HEADS).transpose(1, 2) for y in self.c_attn(self.ln_1(x)).split(c, 2))
            weights = (q @ k.transpose(-2, -1) * (c // HEADS) ** -0.5 + self.mask).softmax(-1)
            x = x + self.c_proj((weights @ v).transpose(1, 2).reshape(b, t, c))
            return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(VOCAB, HIDDEN), nn.Embedding(TOKENS, HIDDEN)
            self.blocks, self.ln_f = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(HIDDEN)

        def forward(self, tokens, targets):
            x = self.wte(tokens) + self.wpe(torch.arange(TOKENS))
            for block in self.blocks:
                x = block(x)
            logits = self.ln_f(x) @ self.wte.weight.t()
            return F.cross_entropy(logits.view(-1, VOCAB), targets.view(-1))

    model = Model()
    options = dict(lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    try:
        optimizer = torch.optim.AdamW(model.parameters(), foreach=True, **options)
    except TypeError:
        optimizer = torch.optim.AdamW(model.parameters(), **options)
    tokens = torch.randint(VOCAB, (BATCH, TOKENS))
    targets = torch.randint(VOCAB, (BATCH, TOKENS))

    def step():
        optimizer.zero_grad(set_to_none=True)
        model(tokens, targets).backward()
        optimizer.step()

    for _ in range(3):
        step()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        loaded = {os.path.realpath(line.split()[-1]) for line in maps if "blas" in line or "mkl" in line}
    fast = sorted(os.path.basename(path) for path in loaded if "openblas" in path or "mkl" in path)
    if not fast: # some forty times slower: no comparison
        print("needs OpenBLAS or MKL behind PyTorch, found the reference BLAS", *sorted(loaded), flush=True)
        return
    print("ready", torch.__version__, *fast, flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            step()
            times.append((time.perf_counter() - begin) * 1e3)
        print(*times, flush=True)


def main():
    if sys.argv[1:] == ["--worker"]:
        torch_worker()
        return 0
    binary, table = sys.argv[1], sys.argv[2]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count()))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    environment.update(PEERS_THREADS=threads, OMP_NUM_THREADS=threads)
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        if "avx512f" in cpuinfo.read():
            environment.setdefault("ATEN_CPU_CAPABILITY", "avx512")
            environment.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    peers = {}
    for name, command in {"msg": [binary, "--serve"], "torch": [sys.executable, __file__, "--worker"]}.items():
        peers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                       env=environment)
        ready = peers[name].stdout.readline().split()
        if ready[:1] != ["ready"]:
            print(f"{name} did not start: {' '.join(ready) or 'PyTorch is the package python3-torch'}", file=sys.stderr)
            return 1
        print(f"{name}: {' '.join(ready[1:])}")
    times = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            peer.stdin.write(f"{STEPS}\n")
            peer.stdin.flush()
            times[name] += [float(t) for t in peer.stdout.readline().split()]
    for peer in peers.values():
        peer.stdin.close()
        peer.wait()
    tokens = TOKENS * BATCH
    best = {name: min(t) for name, t in times.items()}
    median = {name: statistics.median(t) for name, t in times.items()}
    print(f"\nconfiguration B: {tokens} tokens a step, {threads} threads, {rounds} rounds of {STEPS} steps, interleaved")
    print(f"{'trainer':<8} {'fastest ms':>11} {'median ms':>11} {'tokens/s (median)':>19}")
    for name in peers:
        print(f"{name:<8} {best[name]:>11.1f} {median[name]:>11.1f} {tokens / median[name] * 1e3:>19.0f}")
    print(f"ratio of tokens/s, msg / torch: {best['torch'] / best['msg']:.2f} (fastest), "
          f"{median['torch'] / median['msg']:.2f} (median)")
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trainer", "fastest_ms", "median_ms", "tokens_per_second", "threads"])
        for name in peers:
            writer.writerow([name, f"{best[name]:.2f}", f"{median[name]:.2f}", f"{tokens / median[name] * 1e3:.0f}",
                             threads])
    print(f"written: {table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
