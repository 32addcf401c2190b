"""Trains small tokenizers with Hugging Face's `tokenizers` and encodes two texts with each: FOLDER/kind-*/*.ids."""
import os
import random
import sys

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

folder = sys.argv[1]
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
byte_level = pre_tokenizers.ByteLevel

# Characters of many scripts. Left out: what was added to Unicode after the tables of one side or the other.
draw = random.Random(1)
pool = [chr(c) for first, last in [(1, 0x250), (0x370, 0x530), (0x900, 0x980), (0xE00, 0xE60), (0x1E00, 0x2066),
                                   (0x3000, 0x3100), (0x4E00, 0x4E80), (0xAC00, 0xAC40), (0xF900, 0xF930)]
        for c in range(first, last)] + list("ﬁ😀𝐀𠀁İſK")
words = ["don't", "I'LL", "we've", "'S", "x'd", "123456", "3.14", " ", "  ", "\t", "\n", "\r\n", "\n\n", " \n ", "===",
         "a==b", "héllo", "naïve", "İstanbul", "中文字", "안녕", "....", "A" * 150, "é" * 120, " " * 300, "(x)"]
hard = "".join(draw.choice(pool) if draw.random() < 0.6 else draw.choice(words) for _ in range(20000))
with open(__file__, encoding="utf-8") as source:
    easy = source.read() + " ".join(draw.choice(words) for _ in range(2000))


def text(name, content):
    path = os.path.join(folder, name + ".txt")
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(content)
    return path


files = [text("easy", easy), text("hard", hard)]


def make(name, tokenizer, trainer, as_files=False):
    tokenizer.train(files, trainer)
    tokenizer.encode_special_tokens = True  # text is data: the names of special tokens in it are characters
    place = os.path.join(folder, "kind-" + name)
    os.mkdir(place)
    if as_files:
        tokenizer.model.save(place)
    else:
        tokenizer.save(os.path.join(place, "tokenizer.json"))
    for which, content in (("easy", easy), ("hard", hard)):
        with open(os.path.join(place, which + ".ids"), "w", encoding="ascii") as file:
            file.writelines(f"{i}\n" for i in tokenizer.encode(content, add_special_tokens=False).ids)


def bpe(name, pre_tokenizer, as_files=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    make(name, tokenizer, trainers.BpeTrainer(vocab_size=2000, special_tokens=["<|endoftext|>"], show_progress=False,
                                              initial_alphabet=byte_level.alphabet()), as_files)


bpe("gpt2", byte_level(add_prefix_space=False))
bpe("gpt2-files", byte_level(add_prefix_space=False), as_files=True)
bpe("llama3", pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3), "isolated", False),
                                       byte_level(add_prefix_space=False, use_regex=False)]))
bpe("digits", pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level(add_prefix_space=False)]))
pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
pieces.normalizer = normalizers.BertNormalizer()
pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
make("word-piece", pieces, trainers.WordPieceTrainer(vocab_size=2000, show_progress=False, special_tokens=[
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
