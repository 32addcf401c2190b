// Checkpoints: the folder step-XXXXXXXX of a run directory, written whole or not at all and read without trust.
#pragma once

#include "transformer/checkpoint_json.hpp"
#include "transformer/run_directory.hpp"
#include "transformer/safetensors.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace reference {

/// One parameter and its optimizer state as the trainer holds them. Where the name has a `*`, as in
/// "transformer.h.*.mlp.c_fc.weight", the layers are stacked: the leading extent counts them, and files hold one tensor
/// per layer; a second `*` stands for the experts, and files hold one per layer and expert.
template <class T>
struct stored_parameter {
  std::string name{};              // stored_name() of the schema's
  std::vector<msg::index> shape{}; // (L, ...) if stacked
  std::span<T> value{};            // row-major, product of shape
  std::span<T> exp_avg{};          // the same, or empty: the optimizer has no such moment
  std::span<T> exp_avg_sq{};       // the same, or empty
};

/// By axis, the step at which each of its units was born; an axis that never grew may be absent.
using axis_births = std::map<std::string, std::vector<msg::index>, std::less<>>;

/// The documents of a checkpoint: all that must be known before a model of the right size can be built.
struct checkpoint_documents {
  saved_config config{};
  std::vector<msg::growth_record> growths{};
  trainer_state state{};
};

namespace detail {

// One tensor of a file and where it lives in memory.
template <class T>
struct tensor_slot {
  std::string name{};
  std::vector<msg::index> shape{};
  std::span<T> data{};
};

// Appends the slots of one buffer of a parameter: one for each layer and expert that it stacks.
template <class T>
void add_slots(std::vector<tensor_slot<T>>& slots, std::string_view prefix, const stored_parameter<T>& parameter,
               std::span<T> data) {
  if (data.empty()) { return; }
  const auto stars = std::count(parameter.name.begin(), parameter.name.end(), '*');
  msg::index slices = 1;
  for (auto extent = parameter.shape.begin(); extent != parameter.shape.begin() + stars; ++extent) {
    slices *= *extent;
  }
  const std::size_t count = data.size() / static_cast<std::size_t>(slices);
  for (msg::index slice = 0; slice < slices; ++slice) {
    tensor_slot<T> slot{std::string{prefix} + parameter.name, {}, {}};
    slot.shape.assign(parameter.shape.begin() + stars, parameter.shape.end());
    msg::index rest = slice;
    for (auto which = stars; which-- > 0;) { // the last `*` counts fastest
      const msg::index extent = parameter.shape[static_cast<std::size_t>(which)];
      slot.name.replace(slot.name.rfind('*'), 1, std::to_string(rest % extent));
      rest /= extent;
    }
    slot.data = data.subspan(static_cast<std::size_t>(slice) * count, count);
    slots.push_back(std::move(slot));
  }
}
template <class T>
[[nodiscard]] std::vector<tensor_slot<T>> model_slots(std::span<const stored_parameter<T>> parameters) {
  std::vector<tensor_slot<T>> slots;
  for (const auto& parameter : parameters) { add_slots(slots, "", parameter, parameter.value); }
  return slots;
}
template <class T>
[[nodiscard]] std::vector<tensor_slot<T>> optimizer_slots(std::span<const stored_parameter<T>> parameters) {
  std::vector<tensor_slot<T>> slots;
  for (const auto& parameter : parameters) {
    add_slots(slots, "exp_avg/", parameter, parameter.exp_avg);
    add_slots(slots, "exp_avg_sq/", parameter, parameter.exp_avg_sq);
  }
  return slots;
}

template <class T>
void write_slots(const std::filesystem::path& path, const std::vector<tensor_slot<T>>& slots,
                 const axis_births& births = {}) {
  std::vector<tensor_source> sources;
  sources.reserve(slots.size() + births.size());
  for (const auto& slot : slots) { sources.push_back({slot.name, dtype_of<T>, slot.shape, std::as_bytes(slot.data)}); }
  for (const auto& [axis, birth] : births) {
    sources.push_back(
        {"birth/" + axis, dtype::i64, {static_cast<msg::index>(birth.size())}, std::as_bytes(std::span{birth})});
  }
  output_file out(path);
  write_safetensors(out, std::move(sources));
  out.finish();
}

// The file must hold exactly the slots, and beside them nothing but birth/AXIS where `births` says so.
template <class T>
void check_slots(const safetensors_file& file, const std::vector<tensor_slot<T>>& slots, bool births) {
  findings found(file.path().string());
  std::set<std::string_view> known;
  for (const auto& slot : slots) {
    known.insert(slot.name);
    const tensor_entry* entry = file.find(slot.name);
    if (entry == nullptr) {
      found.add("", "missing tensor '" + slot.name + "'");
    } else if (entry->type != dtype_of<T> || entry->shape != slot.shape) {
      found.add("tensor '" + slot.name + "'",
                "expected " + text_of(dtype_of<T>, slot.shape) + ", found " + text_of(entry->type, entry->shape));
    }
  }
  for (const tensor_entry& entry : file.tensors()) {
    if (births && entry.name.starts_with("birth/")) {
      if (entry.type != dtype::i64 || entry.shape.size() != 1) {
        found.add("tensor '" + printable(entry.name) + "'",
                  "expected I64 of one dimension, found " + text_of(entry.type, entry.shape));
      }
    } else if (!known.contains(entry.name)) {
      found.add("", "unexpected tensor '" + printable(entry.name) + "'");
    }
  }
  found.throw_if_any();
}

template <class T>
void read_slots(const safetensors_file& file, const std::vector<tensor_slot<T>>& slots) {
  for (const auto& slot : slots) {
    file.read(file.at(slot.name), slot.data);
    if (const msg::index bad = first_non_finite(std::span<const T>{slot.data}); bad >= 0) {
      throw input_error(file.path().string() + ": tensor '" + slot.name + "': expected finite values, found " +
                        fmt::format("{}", slot.data[static_cast<std::size_t>(bad)]) + " at element " +
                        std::to_string(bad));
    }
  }
}

inline void write_json(const std::filesystem::path& path, const json& document) {
  output_file out(path);
  out.write(document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
  out.finish();
}

} // namespace detail

/// Writes RUN/step-XXXXXXXX of documents.state.step, makes it the latest, and removes older ones but one.
///
/// run          the run directory, made by prepare_run_directory
/// parameters   T is float (stored as F32) or double (F64); read only
/// births       of every axis that has grown
/// Returns the folder. Throws run_error naming path and reason if anything cannot be written: then nothing of it stays,
/// and the checkpoints written before are as they were.
template <class T>
std::filesystem::path save_checkpoint(const std::filesystem::path& run, std::span<const stored_parameter<T>> parameters,
                                      const axis_births& births, const checkpoint_documents& documents) {
  const msg::index step = documents.state.step;
  std::filesystem::path folder = run / step_folder_name(step);
  write_folder_atomically(folder, [&](const std::filesystem::path& temporary) {
    detail::write_json(temporary / "config.json", config_json<T>(documents.config));
    detail::write_slots(temporary / "model.safetensors", detail::model_slots(parameters));
    detail::write_slots(temporary / "optimizer.safetensors", detail::optimizer_slots(parameters), births);
    detail::write_json(temporary / "growth.json", growth_json(documents.growths, step));
    detail::write_json(temporary / "trainer_state.json", trainer_state_json(documents.state));
  });
  publish_checkpoint(run, step);
  return folder;
}

/// Reads and checks the three JSON documents of a checkpoint folder. Throws input_error.
[[nodiscard]] inline checkpoint_documents read_checkpoint_documents(const std::filesystem::path& folder) {
  const auto read = [&](std::string_view name) { return read_json(folder / name); };
  checkpoint_documents documents;
  documents.config = read_config(read("config.json"), (folder / "config.json").string());
  documents.state = read_trainer_state(read("trainer_state.json"), (folder / "trainer_state.json").string());
  documents.growths = read_growth(read("growth.json"), documents.state.step, (folder / "growth.json").string());
  return documents;
}

/// Fills the parameters and moments of a model that has the sizes of the checkpoint, and returns the births.
///
/// parameters   each span of the size its shape says; moments that are empty must not be in the file
/// step         of the checkpoint: no birth may lie after it
/// Throws input_error in one line for tensors that are missing, unexpected, of another shape or element type (before
/// anything is read), or not finite.
template <class T>
[[nodiscard]] axis_births load_checkpoint(const std::filesystem::path& folder,
                                          std::span<const stored_parameter<T>> parameters, msg::index step) {
  const safetensors_file model(folder / "model.safetensors");
  const safetensors_file optimizer(folder / "optimizer.safetensors");
  const auto values = detail::model_slots(parameters);
  const auto moments = detail::optimizer_slots(parameters);
  detail::check_slots(model, values, false);
  detail::check_slots(optimizer, moments, true);
  detail::read_slots(model, values);
  detail::read_slots(optimizer, moments);
  axis_births births;
  for (const tensor_entry& entry : optimizer.tensors()) {
    if (!entry.name.starts_with("birth/")) { continue; }
    auto birth = optimizer.read<msg::index>(entry.name);
    for (const msg::index born : birth) {
      if (born < 0 || born > step) {
        throw input_error(optimizer.path().string() + ": tensor '" + printable(entry.name) +
                          "': expected births from 0 to " + std::to_string(step) + ", found " + std::to_string(born));
      }
    }
    births.emplace(entry.name.substr(6), std::move(birth));
  }
  return births;
}

} // namespace reference
