// Pairs of segments for next-sentence prediction: documents, their sentences, and what a pair is cut from.
#pragma once

#include "transformer/token_store.hpp"
#include "transformer/tokenizer.hpp"

#include <msg/random.hpp>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace reference {

/// What separates documents of text; `none`: single sequences instead of pairs.
enum class document_rule { automatic, files, blank_lines, none };

/// Ids of one document in the store, and which of all sentences are its own.
struct pair_document {
  index begin = 0;
  index end = 0;
  std::size_t first_sentence = 0;
  std::size_t end_sentence = 0;
  std::size_t source = 0; // stretches of one file, between which others are held out, are of one document
};

/// Neighbouring sentences of one document that fit a sequence together.
struct pair_chunk {
  index begin = 0;
  index size = 0; // at least 2
  std::size_t document = 0;
};

/// One side of the division.
struct pair_side {
  std::vector<index> sentences; // where each begins, in the store
  std::vector<pair_document> documents;
  std::vector<pair_chunk> chunks;
};

namespace data_detail {

// Calls line(text) for each line with its line end; blank() for a blank one.
template <class Line, class Blank>
void each_line(std::string_view text, const Line& line, const Blank& blank) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view whole = text.substr(0, end);
    if (whole.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos) {
      blank();
    } else {
      line(whole);
    }
    text.remove_prefix(end);
  }
}

// Cuts a document into chunks: as many sentences as fit, in order.
inline void cut_chunks(pair_side& side, std::size_t number, index most) {
  const pair_document& d = side.documents[number];
  pair_chunk chunk{d.begin, 0, number};
  const auto finish = [&] {
    if (chunk.size >= 2) { side.chunks.push_back(chunk); }
    chunk = {chunk.begin + chunk.size, 0, number};
  };
  for (std::size_t s = d.first_sentence; s < d.end_sentence; ++s) {
    const index end = s + 1 < d.end_sentence ? side.sentences[s + 1] : d.end;
    if (end - chunk.begin > most && chunk.size > 0) { finish(); }
    chunk.size = end - chunk.begin;
  }
  finish();
}

// Appends the documents of a stretch of text. A sentence is a line; one that would fill more than half of a sequence is
// cut, so that a pair has room for what goes before or after it.
inline void add_documents(pair_side& side, token_store& store, std::string_view text, std::size_t source,
                          bool blank_lines, const tokenizer& words, word_cache& cache, index most) {
  std::vector<std::int32_t> ids;
  pair_document now{store.size(), 0, side.sentences.size(), 0, 0};
  const auto finish = [&] {
    now.end = store.size();
    now.end_sentence = side.sentences.size();
    now.source = blank_lines ? side.documents.size() : source;
    if (now.end > now.begin) {
      side.documents.push_back(now);
      cut_chunks(side, side.documents.size() - 1, most);
    }
    now = {store.size(), 0, side.sentences.size(), 0, 0};
  };
  const index longest = std::max(most / 2, index{1});
  each_line(
      text,
      [&](std::string_view line) {
        ids.clear();
        words.encode(line, ids, cache);
        for (index at = 0; at < static_cast<index>(ids.size()); at += longest) {
          side.sentences.push_back(store.size() + at);
        }
        store.append(ids);
      },
      [&] {
        if (blank_lines) { finish(); }
      });
  finish();
}

} // namespace data_detail

/// Documents that are not of one source.
[[nodiscard]] inline std::size_t count_sources(const pair_side& side) {
  std::size_t count = side.documents.empty() ? 0 : 1;
  for (std::size_t d = 1; d < side.documents.size(); ++d) { // those of one source are neighbours
    count += side.documents[d].source != side.documents[d - 1].source ? 1 : 0;
  }
  return count;
}

/// Rows of a batch that one pair fills, each of T elements, and its length and class.
struct pair_row {
  std::span<std::int32_t> tokens;
  std::span<std::int32_t> types;
  std::int32_t length = 0;
  std::int32_t next_sentence = 0; // 0: the second segment follows the first; 1: it is of another document
};

/// [CLS] A [SEP] B [SEP] and padding, from chunk number `chunk`: A is its beginning up to a sentence's end, B what
/// follows, or in half of the cases as many tokens of another document. A tenth of the pairs is shorter than it could
/// be, so that the model meets all lengths. Nothing but `source` and `chunk` decides.
/// Source: Devlin et al. 2019, sec. 3.1 and A.2; the lengths of both kinds of B agree here, so that they tell nothing.
inline void write_pair(const pair_side& side, const token_store& store, const special_ids& special, std::size_t chunk,
                       const msg::random_stream& source, pair_row& row) {
  const pair_chunk& c = side.chunks[chunk];
  const msg::random_block drawn = msg::random_words(source, 2 * static_cast<std::uint64_t>(chunk));
  const msg::random_block where = msg::random_words(source, 2 * static_cast<std::uint64_t>(chunk) + 1);
  const auto below = [](std::uint32_t word, index count) {
    return static_cast<index>((std::uint64_t{word} * static_cast<std::uint64_t>(count)) >> 32U);
  };
  const bool is_short = below(drawn.word[0], 10) == 0;
  const index size = is_short ? 2 + below(drawn.word[1], c.size - 1) : c.size;
  // A ends where a sentence inside begins; without one, in the middle.
  const auto first = std::upper_bound(side.sentences.begin(), side.sentences.end(), c.begin);
  const auto last = std::lower_bound(first, side.sentences.end(), c.begin + size);
  const index split =
      first == last ? c.begin + size / 2 : *(first + below(drawn.word[2], static_cast<index>(last - first)));
  const index a = split - c.begin;
  index b = size - a;
  index b_begin = split;
  row.next_sentence = static_cast<std::int32_t>(drawn.word[3] >> 31U);
  if (row.next_sentence == 1) {
    const auto count = static_cast<index>(side.documents.size());
    index other = below(where.word[0], count - 1);
    other += other >= static_cast<index>(c.document) ? 1 : 0;
    while (side.documents[static_cast<std::size_t>(other)].source == side.documents[c.document].source) {
      other = (other + 1) % count;
    }
    const pair_document& d = side.documents[static_cast<std::size_t>(other)];
    const auto sentences = static_cast<index>(d.end_sentence - d.first_sentence);
    b_begin = side.sentences[d.first_sentence + static_cast<std::size_t>(below(where.word[1], sentences))];
    b_begin = std::max(d.begin, std::min(b_begin, d.end - b)); // as long as the other kind, where the document is
    b = std::min(b, d.end - b_begin);
  }
  auto* token = row.tokens.data();
  *token++ = special.classify;
  store.copy(c.begin, a, token);
  token += a;
  *token++ = special.separate;
  const auto second = token - row.tokens.data();
  store.copy(b_begin, b, token);
  token += b;
  *token++ = special.separate;
  const auto end = token - row.tokens.data();
  row.length = static_cast<std::int32_t>(end);
  std::fill(row.tokens.begin() + end, row.tokens.end(), special.pad);
  std::fill(row.types.begin(), row.types.begin() + second, 0);
  std::fill(row.types.begin() + second, row.types.begin() + end, 1);
  std::fill(row.types.begin() + end, row.types.end(), 0);
}

} // namespace reference
