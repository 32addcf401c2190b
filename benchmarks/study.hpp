// What the studies of growing models share: their command line, a table that is printed and written as CSV, and a small
// Transformer in training that grows.
#pragma once

#include "transformer/cpu_backend.hpp"
#include "transformer/errors.hpp"
#include "transformer/grow_model.hpp"
#include "transformer/model.hpp"
#include "transformer/parallel.hpp"

#include <msg/grow.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace study {

using msg::index;

/// A study's command line: --smoke (seconds instead of minutes), and what else it takes, by name.
class arguments {
public:
  /// Throws std::invalid_argument.
  arguments(int argc, char** argv, const std::vector<std::string>& options, std::vector<std::string> flags = {}) {
    flags.emplace_back("--smoke");
    const auto among = [](const std::vector<std::string>& names, const std::string& name) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    for (int i = 1; i < argc; ++i) {
      const std::string name = argv[i];
      if (among(flags, name)) {
        values_[name] = "yes";
      } else if (among(options, name) && i + 1 < argc) {
        values_[name] = argv[++i];
      } else {
        std::string all;
        for (const std::string& one : options) { all += one + " VALUE, "; }
        for (const std::string& one : flags) { all += one + (one == "--smoke" ? "" : ", "); }
        throw std::invalid_argument("'" + name + "' is not one of " + all + ", or its value is missing");
      }
    }
    smoke = flag("--smoke");
  }
  [[nodiscard]] bool flag(const std::string& name) const { return values_.count(name) > 0; }
  [[nodiscard]] std::string text(const std::string& name, const std::string& otherwise = "") const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second;
  }
  /// Throws std::invalid_argument for what is no whole number of at least 1.
  [[nodiscard]] index number(const std::string& name, index otherwise) const {
    const auto found = values_.find(name);
    if (found == values_.end()) { return otherwise; }
    char* end = nullptr;
    const index value = std::strtoll(found->second.c_str(), &end, 10);
    if (*end != '\0' || value < 1) {
      throw std::invalid_argument(name + " takes a whole number of at least 1, not '" + found->second + "'");
    }
    return value;
  }
  bool smoke = false;

private:
  std::map<std::string, std::string> values_;
};

/// Runs a study: its exit status, 2 for a command line or input that cannot be, 1 where it fails; one line says why.
template <class Study>
[[nodiscard]] int run(const char* name, const Study& study) {
  const auto fail = [&](int status, const std::exception& failure) {
    fmt::print(stderr, "{}: {}\n", name, failure.what());
    return status;
  };
  try {
    return study();
  } catch (const std::invalid_argument& failure) {
    return fail(2, failure);
  } catch (const reference::input_error& failure) { return fail(2, failure); } catch (const std::exception& failure) {
    return fail(1, failure);
  }
}

/// Rows of text under column names.
class table {
public:
  explicit table(std::vector<std::string> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> row) {
    if (row.size() != columns_.size()) { throw std::logic_error("a row of another table"); }
    rows_.push_back(std::move(row));
  }
  /// Columns as wide as they must be; those of numbers to the right.
  void print() const {
    std::vector<std::size_t> width;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      width.push_back(columns_[c].size());
      for (const auto& row : rows_) { width[c] = std::max(width[c], row[c].size()); }
    }
    const auto print_row = [&](const std::vector<std::string>& row) {
      std::string line;
      for (std::size_t c = 0; c < row.size(); ++c) {
        const bool last = c + 1 == row.size();
        line += c == 0 || last ? fmt::format("{:<{}}", row[c], last ? 0 : width[c])
                               : fmt::format("{:>{}}", row[c], width[c]);
        line += last ? "" : "  ";
      }
      fmt::print("{}\n", line);
    };
    print_row(columns_);
    for (const auto& row : rows_) { print_row(row); }
  }
  /// Throws std::runtime_error where the file cannot be written. Nothing for an empty path.
  void write_csv(const std::string& path) const {
    if (path.empty()) { return; }
    std::FILE* const file = std::fopen(path.c_str(), "w");
    if (file == nullptr) { throw std::runtime_error("cannot write " + path); }
    const auto write = [&](const std::vector<std::string>& row) {
      for (std::size_t c = 0; c < row.size(); ++c) {
        const bool quoted = row[c].find_first_of(",\"\n") != std::string::npos;
        std::string cell;
        for (const char letter : row[c]) { cell += letter == '"' ? "\"\"" : std::string(1, letter); }
        fmt::print(file, "{}{}{}", c == 0 ? "" : ",", quoted ? "\"" + cell + "\"" : cell, "");
      }
      fmt::print(file, "\n");
    };
    write(columns_);
    for (const auto& row : rows_) { write(row); }
    if (std::fclose(file) != 0) { throw std::runtime_error("cannot write " + path); }
  }
  [[nodiscard]] std::size_t size() const noexcept { return rows_.size(); }

private:
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// What becomes of AdamW's moments and step counters at a growth.
enum class optimizer_state {
  kept,  // carried by the dual law; fresh entries start at zero with an age of their own
  stale, // carried, and every entry, the fresh ones too, under the old step counter
  reset  // zero everywhere, the counter too
};

/// A Transformer in training.
template <class T>
class learner {
public:
  learner(const reference::config& sizes, index batch, index tokens, std::uint64_t seed)
      : state(reference::initial_state<T>(sizes, seed)), batch_(batch), tokens_(tokens) {
    rebuild();
  }
  learner(const learner& other)
      : state(other.state), step(other.step), batch_(other.batch_), tokens_(other.tokens_), policy_(other.policy_),
        counted_from_(other.counted_from_) {
    rebuild();
  }
  learner& operator=(const learner&) = delete;
  ~learner() = default;

  /// Loss and logits of a batch, and with `gradients` also those; masks as they are at this step.
  [[nodiscard]] auto evaluated(const reference::model_input& input) {
    const reference::live_masks masks = state.masks(step);
    msg::evaluation<std::vector<T>, reference::tensor_set<T>> result;
    result.loss = model_->forward(state.values, input, masks.view());
    result.outputs.assign(model_->logits().begin(), model_->logits().end());
    result.outputs.insert(result.outputs.end(), model_->sentence_logits().begin(), model_->sentence_logits().end());
    result.gradients = state.values.like();
    model_->backward(state.values, result.gradients);
    return result;
  }
  [[nodiscard]] double loss(const reference::model_input& input) {
    const reference::live_masks masks = state.masks(step);
    return model_->forward(state.values, input, masks.view());
  }

  /// One AdamW step; returns the loss before it.
  double train(const reference::model_input& input, double lr, const msg::adamw& options = {}) {
    const reference::live_masks masks = state.masks(step);
    gradients_.zero();
    const double loss = model_->forward(state.values, input, masks.view());
    model_->backward(state.values, gradients_);
    double squares = 0;
    for (const auto& g : gradients_) { squares += msg::sum_of_squares(g.data); }
    const double scale = msg::clip_scale(std::sqrt(squares), 1);
    refresh_ages();
    for (std::size_t p = 0; p < ages_.size(); ++p) {
      msg::update(options,
                  msg::update_step{.lr = lr,
                                   .step = step - counted_from_,
                                   .gradient_scale = scale,
                                   .decay = msg::decays(schema_.parameters()[p].what)},
                  ages_[p], state.values.tensors[p], std::as_const(gradients_.tensors[p]), state.moment1.tensors[p],
                  state.moment2.tensors[p]);
    }
    ++step;
    return loss;
  }

  /// Takes back whatever the last plan's contract asked of the forward: masks, norm weights, eps.
  void forget_contract(double norm_eps) {
    state.growth = {};
    state.norm_splits.clear();
    state.sizes.norm_eps = norm_eps;
    rebuild();
  }
  /// Grows before the forward of this step.
  void grow(const msg::plan& plan, const msg::ramp& ramp, optimizer_state what = optimizer_state::kept) {
    reference::grow(state, plan, step, ramp);
    policy_ = what;
    if (what == optimizer_state::reset) {
      state.moment1.zero();
      state.moment2.zero();
      counted_from_ = step;
    }
    rebuild();
  }

  [[nodiscard]] const msg::schema& schema() const noexcept { return schema_; }

  reference::model_state<T> state;
  index step = 0; // done, and number of the next

private:
  void rebuild() {
    schema_ = reference::schema_of(state.sizes);
    model_ = std::make_unique<reference::transformer<T>>(state.sizes, batch_, tokens_);
    gradients_ = state.values.like();
    ages_.clear();
  }
  void refresh_ages() {
    const bool ramping = state.growth.ramping(step);
    if (!ages_.empty() && !ramping && !ages_moving_) { return; }
    ages_moving_ = ramping;
    ages_.clear();
    for (const msg::parameter& p : schema_.parameters()) {
      ages_.push_back(policy_ == optimizer_state::kept ? state.ages(p, step) : msg::parameter_ages{});
    }
  }

  index batch_, tokens_;
  msg::schema schema_;
  std::unique_ptr<reference::transformer<T>> model_;
  reference::tensor_set<T> gradients_;
  std::vector<msg::parameter_ages> ages_;
  bool ages_moving_ = false;
  optimizer_state policy_ = optimizer_state::kept;
  index counted_from_ = 0; // the step that AdamW counts from
};

} // namespace study
