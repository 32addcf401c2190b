#!/usr/bin/env python3
"""Writes unicode_tables.hpp from Python's own Unicode database: python3 unicode_tables.py > unicode_tables.hpp"""
import unicodedata


def class_of(code):
    category = unicodedata.category(chr(code))
    if category[0] in "LNP":
        return category[0]
    return "M" if category == "Mn" else "C" if category in ("Cc", "Cf", "Co") else "o"


def classes():
    run, length = class_of(0), 0
    for code in range(0x110000):
        if class_of(code) != run:
            yield f"{length if length > 1 else ''}{run}"
            run, length = class_of(code), 0
        length += 1
    yield f"{length}{run}"


def lower_cases():
    runs = []
    for code in range(0x110000):
        lower = chr(code).lower()
        if lower == chr(code) or len(lower) > 1:  # the one of two characters, U+0130, is written by hand
            continue
        if runs:
            first, count, stride, delta = runs[-1]
            step = code - (first + (count - 1) * stride)
            if ord(lower) - code == delta and (step == stride if count > 1 else step <= 2):
                runs[-1] = (first, count + 1, step, delta)
                continue
        runs.append((code, 1, 1, ord(lower) - code))
    return (f"{first:X},{count},{stride},{delta} " for first, count, stride, delta in runs)


def bases():
    runs = []
    for code in range(0x110000):
        if 0xAC00 <= code <= 0xD7A3 or 0xD800 <= code < 0xE000 or class_of(code) == "M":
            continue  # Hangul is arithmetic, marks go by their class
        base = [c for c in unicodedata.normalize("NFD", chr(code)) if class_of(ord(c)) != "M"]
        if base == [chr(code)]:
            continue
        text = "+".join(f"{ord(c):X}" for c in base)
        if runs and runs[-1][2] == text and runs[-1][0] + runs[-1][1] == code:
            runs[-1][1] += 1
        else:
            runs.append([code, 1, text])
    return (f"{first:X}{f'*{count}' if count > 1 else ''}={text} " for first, count, text in runs)


def literal(name, comment, pieces):
    print(f"\n{comment}\ninline constexpr std::string_view {name} =")
    line = ""
    for piece in pieces:
        if len(line) + len(piece) > 112:
            print(f'    "{line}"')
            line = ""
        line += piece
    print(f'    "{line}";')


print(f"""// Unicode {unicodedata.unidata_version} as far as tokenizers need it; written by unicode_tables.py, read by unicode.hpp.
// clang-format off
#pragma once

#include <string_view>

namespace reference::unicode_tables {{""")
literal("classes", "// Runs of code points from 0 on, length (1 left out) and class: Letter, Number, Punctuation, nonspacing Mark, Control\n"
        "// (format and private use too), other.", classes())
literal("lower_cases", "// FIRST,count,stride,delta: first + stride * i becomes that + delta.", lower_cases())
literal("bases", "// FIRST[*count]=BASE[+BASE...]: the canonical decomposition without nonspacing marks.", bases())
print("\n} // namespace reference::unicode_tables\n// clang-format on")
