// From a path to training data: reads, divides, encodes, and cuts windows or documents.
#pragma once

#include "transformer/data.hpp"

#include <limits>
#include <utility>

namespace reference {

namespace data_detail {

// What joins the pieces that are too short for a window: the end of a document where the vocabulary has it.
[[nodiscard]] inline std::vector<std::int32_t> joint_of(const tokenizer& words) {
  if (words.special.end >= 0) { return {words.special.end}; }
  return words.encode("\n");
}

inline void add_segment(const training_data& data, data_side& side, index begin, index size) {
  side.segments.push_back({begin, size, side.windows});
  side.windows += (size - (data.window_size() - data.window_step())) / data.window_step();
  side.tokens += size;
}

// Stretches become segments. What is too short for a window is joined, in path order and with a joint after each piece,
// into one segment at the end; windows of that one may hold several short files.
//
// take(begin, size)  appends the ids of a stretch of the source to the store, or says where they are in it
template <class Take>
void cut_segments(training_data& data, const std::vector<unit>& units, bool held_out,
                  const std::vector<std::int32_t>& joint, const Take& take) {
  data_side& side = held_out ? data.validation : data.train;
  std::vector<std::int32_t> joined;
  each_stretch(units, held_out, [&](index begin, index size, index parts, std::size_t) {
    const std::pair<index, index> ids = take(begin, size);
    if (ids.second >= data.window_size()) {
      add_segment(data, side, ids.first, ids.second);
    } else {
      const std::size_t before = joined.size();
      joined.resize(before + static_cast<std::size_t>(ids.second));
      data.tokens.copy(ids.first, ids.second, joined.data() + before);
      joined.insert(joined.end(), joint.begin(), joint.end());
    }
    side.parts += parts;
    side.size += size;
  });
  if (static_cast<index>(joined.size()) >= data.window_size()) {
    add_segment(data, side, data.tokens.size(), static_cast<index>(joined.size()));
    data.tokens.append(joined);
  }
}

inline void cut_documents(training_data& data, const division& divided, bool held_out, bool blank_lines,
                          std::string_view text, word_cache& cache) {
  data_side& side = held_out ? data.validation : data.train;
  const index before = data.tokens.size();
  each_stretch(divided.units, held_out, [&](index begin, index size, index parts, std::size_t file) {
    add_documents(side.pairs, data.tokens, text.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(size)),
                  file, blank_lines, data.words, cache, data.seq - 3);
    side.parts += parts;
    side.size += size;
  });
  side.tokens = data.tokens.size() - before;
  side.windows = static_cast<index>(side.pairs.chunks.size());
}

// Documents: the files of a folder, the paragraphs of one file; nothing where there would not be two on each side.
[[nodiscard]] inline bool by_blank_lines(document_rule rule, const text_files& text) {
  return rule == document_rule::blank_lines || (rule == document_rule::automatic && text.files.size() < 40);
}

inline void require_special(const tokenizer& words, const std::string& path) {
  std::string missing;
  const auto need = [&](std::int32_t id, std::string_view name) {
    if (id < 0) { missing += (missing.empty() ? "" : ", ") + std::string{name}; }
  };
  need(words.special.pad, "[PAD]");
  need(words.special.classify, "[CLS]");
  need(words.special.separate, "[SEP]");
  need(words.special.mask, "[MASK]");
  if (!missing.empty()) {
    throw input_error(fmt::format("the tokenizer ({}) has no token {}: hidden tokens of {} cannot be predicted with it",
                                  words.name, missing, path));
  }
}

inline void finish_sides(training_data& data, const data_options& options, const std::string& path, index total,
                         std::string_view unit) {
  if (data.train.windows == 0 || data.validation.windows == 0) {
    throw input_error(
        fmt::format("{}: too little text: {} {} cannot give windows of {} {} (the sequence length{}) both "
                    "to train on and to hold out",
                    path, total, unit, data.window_size(), data.words.bytes() && unit == "bytes" ? "bytes" : "tokens",
                    data.masked() ? "" : " and one"));
  }
  data.validation_windows = std::clamp(options.validation_tokens / data.seq, index{1}, data.validation.windows);
  if (data.masked()) { data.hiding = {data.vocab, data.words.special.mask, data.words.specials}; }
}

[[nodiscard]] inline std::string held_out_text(const training_data& data, std::size_t units, index total) {
  return fmt::format("held out: {} of {} {} ({:.1f} %{})", data.validation.parts, units,
                     data.by_file ? "files" : "blocks",
                     100 * static_cast<double>(data.validation.size) / static_cast<double>(total),
                     data.bytes_per_token > 0 ? " of the bytes" : "");
}

[[nodiscard]] inline std::string million(index count) {
  return count < 1000000 ? fmt::format("{:.1f} k", static_cast<double>(count) / 1e3)
                         : fmt::format("{:.1f} M", static_cast<double>(count) / 1e6);
}

[[nodiscard]] inline training_data load_token_files(const std::string& path, const std::vector<std::string>& names,
                                                    const data_options& options, tokenizer words) {
  token_files read = read_token_files(path, names, options.vocab > 0 ? options.vocab : words.bytes() ? 0 : words.vocab);
  training_data data;
  data.seq = options.seq;
  data.task = options.masked ? objective::hidden_tokens : objective::next_token;
  data.vocab = options.vocab > 0 ? options.vocab : words.bytes() ? read.vocab : words.vocab;
  if (options.masked && words.bytes()) {
    throw input_error(path + ": token files do not say which ids are [CLS], [SEP] and [MASK]: give their --tokenizer");
  }
  if (options.documents == document_rule::files || options.documents == document_rule::blank_lines) {
    throw input_error(path + ": token files do not say where documents end: --documents expected auto or none");
  }
  data.words = std::move(words);
  if (options.masked) { require_special(data.words, path); }
  data.files_hash = read.hash;
  const index total = read.ids.size();
  division divided = divide(read.files, total, options.seq);
  hold_out_named(divided, read.files);
  data.by_file = divided.by_file;
  data.tokens = std::move(read.ids);
  const auto where = [](index begin, index size) { return std::pair{begin, size}; };
  for (const bool held_out : {false, true}) { cut_segments(data, divided.units, held_out, {}, where); }
  finish_sides(data, options, path, total, "tokens");
  data.description =
      fmt::format("{}tokens in {} token file{}, vocabulary {}; {}", million(total), read.files.size(),
                  read.files.size() == 1 ? "" : "s", data.vocab, held_out_text(data, divided.units.size(), total));
  return data;
}

[[nodiscard]] inline training_data load_text_files(const std::string& path, const data_options& options,
                                                   tokenizer words) {
  text_files text = read_text_files(path);
  const auto total = static_cast<index>(text.bytes.size());
  training_data data;
  data.seq = options.seq;
  data.vocab = options.vocab > 0 ? options.vocab : words.vocab;
  data.words = std::move(words);
  if (data.vocab < data.words.vocab) {
    throw input_error(fmt::format("--vocab expected at least {}, the tokenizer's ({}), found {}", data.words.vocab,
                                  data.words.name, data.vocab));
  }
  const bool in_pairs = options.masked && options.documents != document_rule::none;
  if (options.masked) {
    data.task = in_pairs ? objective::hidden_tokens_in_pairs : objective::hidden_tokens;
    require_special(data.words, path);
  }
  data.files_hash = text.hash;
  if (!data.words.hash.empty()) { data.files_hash += "-" + data.words.hash; }
  const division divided = divide(text.files, total, options.seq);
  data.by_file = divided.by_file;
  std::string documents;
  word_cache cache;
  const std::string_view all(reinterpret_cast<const char*>(text.bytes.data()), text.bytes.size());
  if (in_pairs) {
    const bool blank_lines = by_blank_lines(options.documents, text);
    data.tokens = token_store::for_vocabulary(data.vocab);
    for (const bool held_out : {false, true}) { cut_documents(data, divided, held_out, blank_lines, all, cache); }
    const std::size_t train = count_sources(data.train.pairs);
    const std::size_t held_out = count_sources(data.validation.pairs);
    if (train < 2 || held_out < 2) {
      throw input_error(fmt::format("{}: pairs need at least 2 documents ({}) to train on and 2 to hold out, found {} "
                                    "and {}: give more text, or --documents none",
                                    path, blank_lines ? "separated by blank lines" : "files", train, held_out));
    }
    documents = fmt::format(", {} documents ({})", train + held_out, blank_lines ? "by blank lines" : "files");
  } else if (data.words.bytes() && data.vocab <= 256) {
    data.tokens = token_store(std::move(text.bytes)); // bytes are their own ids
    const auto where = [](index begin, index size) { return std::pair{begin, size}; };
    for (const bool held_out : {false, true}) {
      cut_segments(data, divided.units, held_out, joint_of(data.words), where);
    }
  } else {
    data.tokens = token_store::for_vocabulary(data.vocab);
    std::vector<std::int32_t> ids;
    const auto encode = [&](index begin, index size) {
      ids.clear();
      data.words.encode(all.substr(static_cast<std::size_t>(begin), static_cast<std::size_t>(size)), ids, cache);
      const std::pair where{data.tokens.size(), static_cast<index>(ids.size())};
      data.tokens.append(ids);
      return where;
    };
    for (const bool held_out : {false, true}) {
      cut_segments(data, divided.units, held_out, joint_of(data.words), encode);
    }
  }
  finish_sides(data, options, path, total, "bytes");
  data.bytes_per_token = static_cast<double>(data.validation.size) / static_cast<double>(data.validation.tokens);
  const std::string left_out = skipped(text);
  const double unit = total < 1000000 ? 1e3 : 1e6;
  data.description = fmt::format("{:.1f} {} of text in {} file{}{}{}; {}", static_cast<double>(total) / unit,
                                 total < 1000000 ? "kB" : "MB", text.files.size(), text.files.size() == 1 ? "" : "s",
                                 left_out.empty() ? "" : fmt::format(" ({})", left_out), documents,
                                 held_out_text(data, divided.units.size(), total));
  if (!data.words.bytes()) {
    data.description +=
        fmt::format("; {}tokens ({}, {:.2f} bytes each)", million(data.train.tokens + data.validation.tokens),
                    data.words.name, data.bytes_per_token);
  }
  return data;
}

} // namespace data_detail

/// The vocabulary that a model of this data needs, as far as it can be told before the data is read in whole: what is
/// given, else the tokenizer's, else what token files are made with.
[[nodiscard]] inline index data_vocabulary(const std::string& path, const tokenizer& words, index given) {
  if (given > 0 || !words.bytes()) { return given > 0 ? given : words.vocab; }
  const std::vector<std::string> names = token_file_names(path);
  if (names.empty()) { return words.vocab; }
  namespace fs = std::filesystem;
  const input_file first(names.front().empty() ? fs::path(path) : fs::path(path) / names.front());
  const data_detail::token_format* format = data_detail::format_of(first);
  return format != nullptr ? format->vocab : read_token_files(path, names, 0).vocab;
}

/// Reads the text or the token files at `path`, a file or a folder, and decides what is held out.
///
/// Whole files are held out, 5 to 10 % of the bytes, chosen by a hash of their relative path: the same on every machine
/// and with every tokenizer. Where that is impossible (one file, or a few large ones) blocks of at most 64 KiB are, by
/// file and block number. Token files with "val" in their names are held out, if there are such.
///
/// Throws input_error if nothing is readable, too little is left for one window on each side, the tokenizer lacks what
/// the objective needs, or an id is not below the vocabulary.
[[nodiscard]] inline training_data load_data(const std::string& path, const data_options& options = {},
                                             tokenizer words = byte_tokenizer()) {
  const index least = options.masked ? 8 : 1; // a pair is at least [CLS] a [SEP] b [SEP]
  if (options.seq < least) {
    throw input_error(fmt::format("the sequence length must be at least {}, not {}", least, options.seq));
  }
  if (const std::vector<std::string> names = token_file_names(path); !names.empty()) {
    return data_detail::load_token_files(path, names, options, std::move(words));
  }
  return data_detail::load_text_files(path, options, std::move(words));
}

} // namespace reference
