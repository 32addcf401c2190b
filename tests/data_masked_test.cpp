// What BERT reads: hidden tokens in their proportions, pairs that never cross documents, and nothing left to chance.
#include "support/catch.hpp"
#include "support/files_support.hpp"

#include "transformer/data_load.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

using namespace reference;
using namespace files_test;

namespace {

constexpr std::uint64_t seed = 17;
constexpr msg::index T = 64;

// Text in which every place can be told: document d, line l.
[[nodiscard]] std::string document(int d, int lines) {
  std::string text;
  for (int l = 0; l < lines; ++l) {
    text += fmt::format("{:02d}.{:03d} {}\n", d, l, std::string(static_cast<std::size_t>((d + l) % 9), 'x'));
  }
  return text;
}

/// 60 documents as files, or as paragraphs of one.
class library {
public:
  explicit library(bool files = true) {
    std::string all;
    for (int d = 0; d < 60; ++d) {
      texts_.push_back(document(d, 20 + d % 7));
      all += (d == 0 ? "" : "\n") + texts_.back();
      if (files) { write_bytes(folder_ / fmt::format("{:02d}", d), texts_.back()); }
    }
    if (!files) { write_bytes(folder_ / "all", all); }
  }
  [[nodiscard]] training_data load(document_rule rule = document_rule::automatic) const {
    return load_data(folder_.path().string(), {.seq = T, .masked = true, .documents = rule}, byte_tokenizer(true));
  }
  [[nodiscard]] const std::string& text(std::size_t d) const { return texts_[d]; }
  /// Documents that hold this text somewhere.
  [[nodiscard]] std::set<std::size_t> with(const std::string& part) const {
    std::set<std::size_t> found;
    for (std::size_t d = 0; d < texts_.size(); ++d) {
      if (texts_[d].find(part) != std::string::npos) { found.insert(d); }
    }
    return found;
  }

private:
  temporary_folder folder_;
  std::vector<std::string> texts_;
};

/// A sequence with the hidden tokens put back, cut at [CLS] and [SEP].
struct opened {
  std::string a;
  std::string b;
  std::int32_t next_sentence = -1;
};

[[nodiscard]] std::vector<std::int32_t> row_of(const std::vector<std::int32_t>& all, std::size_t row) {
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row * T);
  return {begin, begin + T};
}
[[nodiscard]] opened open(const token_batch& batch, std::size_t row) {
  std::vector<std::int32_t> tokens = row_of(batch.tokens, row);
  const std::vector<std::int32_t> targets = row_of(batch.targets, row);
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    if (targets[t] >= 0) { tokens[t] = targets[t]; }
  }
  opened result;
  const auto length = static_cast<std::size_t>(batch.lengths[row]);
  REQUIRE(tokens.front() == 257);
  REQUIRE(tokens[length - 1] == 258);
  const auto middle = std::find(tokens.begin(), tokens.end(), 258);
  result.a.assign(tokens.begin() + 1, middle);
  result.b.assign(middle + 1, tokens.begin() + static_cast<std::ptrdiff_t>(length) - 1);
  result.next_sentence = batch.next_sentence[row];
  return result;
}

[[nodiscard]] token_batch pass(const training_data& data, msg::index epoch) {
  token_batch batch = make_batch(data, data.train.windows);
  (void)train_batch(data, seed, {epoch, 0}, batch);
  return batch;
}

// Within five standard deviations of a share of so many draws.
void check_share(double hits, double draws, double share) {
  CAPTURE(hits, draws, share);
  CHECK(std::abs(hits / draws - share) < 5 * std::sqrt(share * (1 - share) / draws));
}

} // namespace

TEST_CASE("15 percent of the tokens are hidden, 80 to 10 to 10, whatever their place", "[data][masked]") {
  const library books;
  const training_data data = books.load(document_rule::none);
  REQUIRE(data.task == objective::hidden_tokens);
  std::map<std::string, double> count;
  std::vector<double> at(T, 0);
  std::map<std::int32_t, double> drawn;
  msg::index rows = 0;
  for (msg::index epoch = 0; epoch < 100; ++epoch) {
    const token_batch batch = pass(data, epoch);
    for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
      const auto t = i % static_cast<std::size_t>(T);
      if (t == 0 || t == T - 1) {
        REQUIRE(batch.tokens[i] == (t == 0 ? 257 : 258));
        REQUIRE(batch.targets[i] == -1);
        continue;
      }
      ++count["all"];
      if (batch.targets[i] < 0) { continue; }
      ++count["hidden"];
      ++at[t];
      REQUIRE(batch.targets[i] < 256);
      if (batch.tokens[i] == 259) {
        ++count["mask"];
      } else if (batch.tokens[i] == batch.targets[i]) {
        ++count["kept"];
      } else {
        ++count["drawn"];
        ++drawn[batch.tokens[i]];
        REQUIRE(batch.tokens[i] < 256);
      }
    }
    rows += batch.sequences;
  }
  REQUIRE(count["all"] > 1e5);
  check_share(count["hidden"], count["all"], 0.15); // 62 tokens: one in 24,000 sequences has none drawn and gets one
  check_share(count["mask"], count["hidden"], 0.8);
  check_share(count["drawn"], count["hidden"], 0.1 * 255 / 256); // one in 256 draws the token that is there
  check_share(count["kept"], count["hidden"], 0.1 + 0.1 / 256);
  for (std::size_t t = 1; t + 1 < T; ++t) { check_share(at[t], static_cast<double>(rows), 0.15); }
  CHECK(drawn.size() > 200); // from the whole vocabulary
}

TEST_CASE("special tokens are neither hidden nor drawn, and a sequence always has a target", "[data][masked]") {
  const token_hiding how{.vocab = 10, .mask = 4, .specials = {0, 4, 7}};
  std::set<std::int32_t> drawn;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    std::vector<std::int32_t> tokens{0, 5, 7, 6};
    std::vector<std::int32_t> targets(4, 99);
    hide_tokens(how, {seed, 3}, i * 4, tokens, targets);
    REQUIRE(tokens[0] == 0);
    REQUIRE(tokens[2] == 7);
    REQUIRE(targets[0] == -1);
    REQUIRE(targets[2] == -1);
    REQUIRE((targets[1] == 5 || targets[1] == -1));
    REQUIRE((targets[1] >= 0 || targets[3] >= 0));
    if (tokens[1] != 4) { drawn.insert(tokens[1]); }
  }
  CHECK(drawn == std::set<std::int32_t>{1, 2, 3, 5, 6, 8, 9});
  std::vector<std::int32_t> nothing{0, 7};
  std::vector<std::int32_t> targets(2, 99);
  hide_tokens(how, {seed, 3}, 0, nothing, targets);
  CHECK(nothing == std::vector<std::int32_t>{0, 7});
  CHECK(targets == std::vector<std::int32_t>{-1, -1});
}

TEST_CASE("the second segment follows the first in half of the pairs and is of another document in the others",
          "[data][masked]") {
  const bool files = GENERATE(true, false);
  CAPTURE(files);
  const library books(files);
  const training_data data = books.load();
  REQUIRE(data.pairs());
  CHECK(data.train.pairs.documents.size() + data.validation.pairs.documents.size() >= 60);
  double pairs = 0;
  double random = 0;
  double lengths[2] = {0, 0};
  for (msg::index epoch = 0; epoch < 10; ++epoch) {
    const token_batch batch = pass(data, epoch);
    for (std::size_t row = 0; row < static_cast<std::size_t>(batch.sequences); ++row) {
      const opened pair = open(batch, row);
      REQUIRE_FALSE(pair.a.empty());
      REQUIRE_FALSE(pair.b.empty());
      ++pairs;
      if (pair.next_sentence == 0) {
        REQUIRE_FALSE(books.with(pair.a + pair.b).empty());
      } else {
        REQUIRE(pair.next_sentence == 1);
        ++random;
        const std::set<std::size_t> from = books.with(pair.a);
        const std::set<std::size_t> other = books.with(pair.b);
        REQUIRE_FALSE(from.empty()); // each segment lies within one document
        REQUIRE_FALSE(other.empty());
        REQUIRE((from.size() > 1 || other.size() > 1 || *from.begin() != *other.begin()));
      }
      lengths[pair.next_sentence] += batch.lengths[row];
    }
  }
  check_share(random, pairs, 0.5);
  // Lengths tell nothing of the class: their means agree as those of two samples of one kind do (at most 64 long, so of
  // a deviation below 32).
  const double kinds[2] = {pairs - random, random};
  CHECK(std::abs(lengths[0] / kinds[0] - lengths[1] / kinds[1]) < 5 * 32 * std::sqrt(1 / kinds[0] + 1 / kinds[1]));
}

TEST_CASE("rows of pairs are laid out as BERT has them: types, padding, lengths", "[data][masked]") {
  const library books;
  const training_data data = books.load();
  const token_batch batch = pass(data, 0);
  std::set<std::int32_t> lengths;
  for (std::size_t row = 0; row < static_cast<std::size_t>(batch.sequences); ++row) {
    const std::vector<std::int32_t> tokens = row_of(batch.tokens, row);
    const std::vector<std::int32_t> targets = row_of(batch.targets, row);
    const std::vector<std::int32_t> types = row_of(batch.types, row);
    const auto length = static_cast<std::size_t>(batch.lengths[row]);
    lengths.insert(batch.lengths[row]);
    const auto middle = static_cast<std::size_t>(std::find(tokens.begin(), tokens.end(), 258) - tokens.begin());
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      REQUIRE((tokens[t] == 256) == (t >= length));
      REQUIRE(types[t] == (t > middle && t < length ? 1 : 0));
      if (t >= length || t == 0 || t == middle || t == length - 1) { REQUIRE(targets[t] == -1); }
    }
    REQUIRE(std::any_of(targets.begin(), targets.end(), [](std::int32_t id) { return id >= 0; }));
  }
  CHECK(lengths.size() > 10);
  CHECK(*lengths.rbegin() <= T);
}

TEST_CASE("nothing of a held-out document is trained on, and validation never changes", "[data][masked]") {
  const library books;
  const training_data data = books.load();
  REQUIRE(data.by_file);
  std::set<std::size_t> trained;
  for (msg::index epoch = 0; epoch < 3; ++epoch) {
    const token_batch batch = pass(data, epoch);
    for (std::size_t row = 0; row < static_cast<std::size_t>(batch.sequences); ++row) {
      trained.merge(books.with(open(batch, row).a));
      trained.merge(books.with(open(batch, row).b));
    }
  }
  // Short segments may be found in many documents: only those that tell their document count.
  token_batch whole = make_batch(data, data.validation_windows);
  CHECK(validation_batch(data, 0, whole) == data.validation_windows);
  token_batch again = make_batch(data, data.validation_windows);
  CHECK(validation_batch(data, 0, again) == data.validation_windows);
  CHECK(whole == again);
  const msg::index half = data.validation_windows / 2 + 1;
  token_batch part = make_batch(data, half);
  std::vector<std::int32_t> joined;
  for (msg::index first = 0; first < data.validation_windows; first += half) {
    const msg::index count = validation_batch(data, first, part);
    joined.insert(joined.end(), part.targets.begin(), part.targets.begin() + count * T);
    for (auto row = static_cast<std::size_t>(count); row < static_cast<std::size_t>(half); ++row) {
      CHECK(part.next_sentence[row] == -1);
      CHECK(part.lengths[row] == 0);
    }
  }
  CHECK(joined == whole.targets);
  for (std::size_t row = 0; row < static_cast<std::size_t>(whole.sequences); ++row) {
    const std::string text = open(whole, row).a;
    if (text.size() >= 8 && text[2] == '.') {
      const auto d = static_cast<std::size_t>(std::stoi(text.substr(0, 2)));
      const auto& side = data.train.pairs.documents;
      const bool in_training = std::any_of(side.begin(), side.end(), [&](const pair_document& document) {
        std::string start;
        for (msg::index i = 0; i < 6; ++i) { start += static_cast<char>(data.tokens[document.begin + i]); }
        return start == books.text(d).substr(0, 6);
      });
      CHECK_FALSE(in_training);
    }
  }
}

TEST_CASE("hidden tokens and pairs are the pass's own, and depend on seed and position alone", "[data][masked]") {
  const library books;
  const training_data data = books.load(GENERATE(document_rule::automatic, document_rule::none));
  const training_data same = books.load(data.pairs() ? document_rule::automatic : document_rule::none);
  const token_batch first = pass(data, 0);
  CHECK(pass(same, 0) == first);
  CHECK_FALSE(pass(data, 1) == first);
  data_position at;
  token_batch part = make_batch(data, 3);
  std::vector<std::int32_t> tokens;
  while (tokens.size() + part.tokens.size() <= first.tokens.size()) { // batches of 3 read what one of all reads
    at = train_batch(data, seed, at, part);
    tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
  }
  CHECK(std::equal(tokens.begin(), tokens.end(), first.tokens.begin()));
  token_batch resumed = make_batch(data, 3);
  (void)train_batch(same, seed, {0, 6}, resumed);
  CHECK(std::equal(resumed.tokens.begin(), resumed.tokens.end(), first.tokens.begin() + 6 * T));
  token_batch other = make_batch(data, 3);
  (void)train_batch(data, seed + 1, {0, 0}, other);
  CHECK_FALSE(std::equal(other.tokens.begin(), other.tokens.end(), first.tokens.begin()));
}

TEST_CASE("what pairs cannot be made of is refused with the way out", "[data][masked]") {
  const temporary_folder folder;
  write_bytes(folder / "one", document(1, 200));
  const std::string place = folder.path().string();
  const auto load = [&](document_rule rule, msg::index seq, bool special = true) {
    return input_message(
        [&] { (void)load_data(place, {.seq = seq, .masked = true, .documents = rule}, byte_tokenizer(special)); });
  };
  CHECK(load(document_rule::files, T) == containing{"pairs need at least 2 documents (files)"});
  CHECK(load(document_rule::none, T) == "no exception");
  CHECK(load(document_rule::none, 7) == "the sequence length must be at least 8, not 7");
  CHECK(load(document_rule::none, T, false) ==
        "the tokenizer (bytes) has no token [PAD], [CLS], [SEP], [MASK]: hidden tokens of " + place +
            " cannot be predicted with it");
}
