// What each published operator keeps at the moment of growth: promised by its plan, and measured.
//
// Every operator grows a small GPT-2 (pre-LN), BERT (post-LN) and Llama (RMSNorm, grouped queries) whose weights,
// biases and gains have been trained away from their first values: hidden, ffn, heads, layers, and all that it grows at
// once, to twice the size and to one and a half times. The same batch goes through the model before and after, in float
// and in double, with what the plan's contract asks of the forward. Measured are the loss, every logit, and every
// gradient, by the library's own verifier. The program fails where a promise and a measurement differ.
//
// usage: preservation [--csv FILE] [--smoke] [--without-contract]
//        --without-contract    the forward does nothing of what the plans ask for: what a trainer without it gets
#include "figure.hpp"
#include "study.hpp"

#include "transformer/gemm_probe.hpp"

#include <msg/grow.hpp>
#include <msg/presets.hpp>

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using msg::strictness;
using reference::architecture;
using reference::config;

constexpr msg::index sequences = 3;
constexpr msg::index tokens = 8;

config small(architecture a) {
  config c = reference::defaults_of(a);
  c.vocab = 40;
  c.positions = tokens;
  c.hidden = 16;
  c.ffn = 24;
  c.heads = 4;
  c.head_dim = 4;
  c.layers = 2;
  c.kv_heads = a == architecture::llama ? 2 : 0;
  return c;
}

/// A batch that has all an architecture can be given.
struct batch {
  std::vector<std::int32_t> inputs, targets, types, next_sentence;

  batch(const config& c, std::uint64_t seed) {
    const auto draw = [&](std::uint64_t stream, msg::index i, msg::index below) {
      return static_cast<std::int32_t>(msg::random_bits({seed, stream}, static_cast<std::uint64_t>(i)) %
                                       static_cast<std::uint32_t>(below));
    };
    const bool bert = c.arch == architecture::bert;
    for (msg::index i = 0; i < sequences * tokens; ++i) {
      inputs.push_back(draw(1, i, c.vocab));
      targets.push_back(bert && draw(3, i, 3) == 0 ? -1 : draw(2, i, c.vocab));
      if (bert) { types.push_back(i % tokens < tokens / 2 ? 0 : 1); }
    }
    for (msg::index b = 0; bert && b < sequences; ++b) { next_sentence.push_back(draw(4, b, 2)); }
  }
  [[nodiscard]] reference::model_input view() const {
    return {.tokens = inputs, .targets = targets, .types = types, .next_sentence = next_sentence};
  }
};

template <class T>
study::learner<T> trained(architecture a, msg::index steps) {
  const config c = small(a);
  study::learner<T> model(c, sequences, tokens, 5);
  for (msg::index i = 0; i < steps; ++i) {
    model.train(batch(c, 100 + static_cast<std::uint64_t>(i % 7)).view(), 1e-2, {.weight_decay = 0});
  }
  return model;
}

/// Requests for one axis, or for "all" that the rule grows alone; none where it grows nothing of it.
std::vector<msg::request> requests_for(const msg::schema& s, const std::string& axis, msg::index halves,
                                       const msg::rule& rule) {
  std::vector<msg::request> result;
  const auto add = [&](const std::string& name) {
    std::vector<msg::request> asked{s.axis_at(name).grow_to(s.axis_at(name).size * halves / 2)};
    if (name == "heads" && s.find_axis("kv_heads") != nullptr) { // groups as they are
      asked.push_back(s.axis_at("kv_heads").grow_to(s.axis_at("kv_heads").size * halves / 2));
    }
    if (axis == "all" && !msg::diagnose(s, asked, rule).empty()) { return; }
    result.insert(result.end(), asked.begin(), asked.end());
  };
  for (const std::string name : {"hidden", "ffn", "heads", "layers"}) {
    if (axis == "all" || axis == name) { add(name); }
  }
  return result;
}

/// What a growth did to a model; the model itself stays as it was.
template <class T>
msg::verification grown_by(study::learner<T> model, const msg::plan& plan, const batch& data, bool contract) {
  const msg::verifier check{plan, model.evaluated(data.view())};
  const double eps = model.state.sizes.norm_eps;
  model.grow(plan, msg::linear_ramp{10});
  if (!contract) { model.forget_contract(eps); }
  return check.against(model.evaluated(data.view()));
}

const char* short_name(strictness what) {
  return what == strictness::exact ? "exact" : what == strictness::rounding ? "rounding" : "none";
}

struct outcome {
  std::string rule, arch, axis, ratio;
  std::string reason{}; // refused, or why not kept
  bool refused = false;
  strictness promised = strictness::none, in_float = strictness::none, in_double = strictness::none;
  double loss_jump = 0, logits_float = 0, logits_double = 0; // the jump in double
  bool bits = false;                                         // in float
  std::string mismatch{};                                    // empty: measured as promised
  std::string details{};
};

/// In double every promise but `none` must hold to rounding; in float also, and a promise of exactness in bits, where
/// the GEMM back-end promises its own.
std::string mismatch_of(const outcome& o, bool bits_promised) {
  if (o.promised == strictness::none) {
    return o.in_double == strictness::none ? "" : "promised to change the function, and does not";
  }
  if (o.in_double == strictness::none) { return "not kept in double"; }
  if (o.in_float == strictness::none) { return "not kept in float"; }
  if (o.promised == strictness::exact && bits_promised && !o.bits) { return "promised exact, other bits in float"; }
  return "";
}

/// Every growth of one architecture by one rule.
class experiment {
public:
  experiment(architecture a, msg::index steps, bool contract)
      : arch_(a), contract_(contract), in_float_(trained<float>(a, steps)), in_double_(trained<double>(a, steps)),
        data_(small(a), 1) {}

  [[nodiscard]] outcome run(const msg::named_rule& named, const std::string& axis, msg::index halves,
                            bool bits_promised) const {
    outcome o{.rule = std::string{named.name},
              .arch = std::string{name_of(arch_)},
              .axis = axis,
              .ratio = halves == 4 ? "2" : "1.5"};
    const msg::rule rule = named.make();
    const msg::schema& schema = in_float_.schema();
    const std::vector<msg::request> requests = requests_for(schema, axis, halves, rule);
    const std::vector<msg::diagnostic> findings = msg::diagnose(schema, requests, rule);
    if (requests.empty() || !findings.empty()) {
      o.refused = true;
      o.reason = requests.empty() ? "grows none of these axes" : findings.front().hint;
      o.mismatch = o.reason.empty() ? "refused without a reason" : "";
      return o;
    }
    const msg::plan plan{schema, requests, rule, {.seed = 9}};
    o.promised = plan.keeps();
    for (const msg::axis_contract& c : plan.contract()) {
      if (c.keeps == strictness::none) { o.reason = c.reason; }
    }
    const msg::verification f = grown_by(in_float_, plan, data_, contract_);
    const msg::verification d = grown_by(in_double_, plan, data_, contract_);
    o.in_float = kept(f);
    o.in_double = kept(d);
    o.bits = f.same_bits();
    o.loss_jump = d.loss.found - d.loss.expected;
    o.logits_float = f.outputs.max_abs;
    o.logits_double = d.outputs.max_abs;
    o.mismatch = mismatch_of(o, bits_promised);
    if (!o.mismatch.empty()) { o.details = explained("double", d) + explained("float", f); }
    return o;
  }

private:
  static std::string explained(const char* type, const msg::verification& v) {
    std::string text = fmt::format("  in {}\n", type);
    for (const msg::diagnostic& finding : msg::findings(v)) { text += "    " + to_string(finding) + "\n"; }
    return text;
  }

  architecture arch_;
  bool contract_; // is kept
  study::learner<float> in_float_;
  study::learner<double> in_double_;
  batch data_;
};

const std::vector<std::string> axes{"hidden", "ffn", "heads", "layers", "all"};

/// One line per rule, one column per axis and ratio.
void print_summary(const std::vector<outcome>& outcomes, architecture a) {
  std::vector<std::string> columns{std::string{name_of(a)}};
  for (const std::string& axis : axes) {
    columns.push_back(axis + " x2");
    columns.push_back(axis + " x1.5");
  }
  columns.emplace_back();
  study::table summary(columns);
  std::vector<std::string> row;
  for (const outcome& o : outcomes) {
    if (o.arch != name_of(a)) { continue; }
    if (row.empty()) { row.push_back(o.rule); }
    row.push_back(o.refused             ? "-"
                  : !o.mismatch.empty() ? fmt::format("!{:.1e}", o.logits_double)
                  : o.bits              ? "bits"
                                        : fmt::format("{:.1e}", o.logits_double));
    if (row.size() + 1 < columns.size()) { continue; }
    row.emplace_back();
    summary.add(std::exchange(row, {}));
  }
  summary.print();
  fmt::print("\n");
}

void write_csv(const std::vector<outcome>& outcomes, const std::string& path) {
  study::table all({"rule", "architecture", "axis", "ratio", "promised", "in_float", "in_double", "same_bits_float",
                    "loss_jump_double", "max_logit_difference_float", "max_logit_difference_double", "as_promised",
                    "reason"});
  for (const outcome& o : outcomes) {
    const auto number = [&](double value) { return o.refused ? "" : fmt::format("{:.3g}", value); };
    const auto word = [&](strictness what) { return o.refused ? "" : short_name(what); };
    all.add({o.rule, o.arch, o.axis, o.ratio, o.refused ? "refused" : short_name(o.promised), word(o.in_float),
             word(o.in_double),
             o.refused ? ""
             : o.bits  ? "yes"
                       : "no",
             number(o.loss_jump), number(o.logits_float), number(o.logits_double), o.mismatch.empty() ? "yes" : "NO",
             o.reason});
  }
  all.write_csv(path);
}

/// One line per rule, one panel per architecture, one dot per growth: its largest logit difference in double.
void draw(const std::vector<outcome>& outcomes, const std::string& path) {
  constexpr double top = 64, step = 18, panel = 330, left = 110, gap = 40;
  const double bottom = top + step * static_cast<double>(std::size(msg::named_rules));
  study::figure page(left + 3 * (panel + 20) + 20, bottom + 76,
                     "Largest change of a logit at the moment of growth, in double (every axis, x2 and x1.5)");
  for (std::size_t a = 0; a < 3; ++a) {
    const double begin = left + static_cast<double>(a) * (panel + 20);
    const study::number_line x{
        .low = 1e-17, .high = 100, .begin = begin + gap, .end = begin + panel, .logarithmic = true, .gap = gap - 14};
    const std::string_view arch = reference::architecture_names[a];
    page.text(begin + panel / 2, top - 14, arch, "text-anchor:middle;font-weight:600");
    page.x_axis(x, top, bottom, "");
    page.text(x.at(0), bottom + 16, "0", "text-anchor:middle");
    for (std::size_t r = 0; r < std::size(msg::named_rules); ++r) {
      const double y = top + step * (static_cast<double>(r) + 0.5);
      page.line(begin, y, begin + panel, y, "stroke:#eee");
      if (a == 0) { page.text(left - 6, y + 4, msg::named_rules[r].name, "text-anchor:end"); }
      bool any = false;
      for (const outcome& o : outcomes) {
        if (o.rule != msg::named_rules[r].name || o.arch != arch || o.refused) { continue; }
        any = true;
        page.dot(x.at(o.logits_double), y, 4,
                 fmt::format("fill:{};fill-opacity:.7", study::palette[o.promised == strictness::exact      ? 2U
                                                                       : o.promised == strictness::rounding ? 0U
                                                                                                            : 1U]));
      }
      if (!any) { page.text(begin + panel / 2, y + 4, "refused", "text-anchor:middle;fill:#888"); }
    }
  }
  double key = left;
  for (const auto& [colour, text] :
       {std::pair{2U, "promised exact"}, {0U, "promised to rounding"}, {1U, "not kept, by its own word"}}) {
    page.dot(key, bottom + 48, 4, fmt::format("fill:{}", study::palette[colour]));
    page.text(key + 8, bottom + 52, text, "");
    key += 200;
  }
  page.write(path);
}

int study_of(int argc, char** argv) {
  const study::arguments given(argc, argv, {"--csv"}, {"--without-contract"});
  reference::set_threads(1); // more would wait for each other, so small are the models
  const std::string csv = given.text("--csv");
  const reference::bits_promise bits = reference::bits_probe();
  fmt::print("Bits of float products are {}: {}\n", bits.promised ? "promised" : "not promised", bits.reason);
  fmt::print(
      "bits: logits, loss and gradients of the grown model have the old bits in float. A number: the largest\n"
      "change of a logit in double; 1e-12 and less is rounding. !: not as promised. -: refused, the CSV says why.\n\n");
  std::vector<outcome> outcomes;
  for (const architecture a : {architecture::gpt2, architecture::bert, architecture::llama}) {
    const experiment growths(a, given.smoke ? 20 : 200, !given.flag("--without-contract"));
    for (const msg::named_rule& named : msg::named_rules) {
      for (const std::string& axis : axes) {
        for (const msg::index halves : {4, 3}) { outcomes.push_back(growths.run(named, axis, halves, bits.promised)); }
      }
    }
    print_summary(outcomes, a);
  }
  write_csv(outcomes, csv);
  if (!csv.empty()) { draw(outcomes, study::figure_path(csv)); }

  std::size_t refused = 0, exact = 0, rounding = 0, changed = 0, wrong = 0;
  for (const outcome& o : outcomes) {
    (o.refused                            ? refused
     : o.promised == strictness::exact    ? exact
     : o.promised == strictness::rounding ? rounding
                                          : changed)++;
    if (o.mismatch.empty()) { continue; }
    ++wrong;
    fmt::print("NOT AS PROMISED: {} of {} by {}, x{}: {}\n{}", o.axis, o.arch, o.rule, o.ratio, o.mismatch, o.details);
  }
  fmt::print("{} growths: {} exact, {} to rounding, {} not kept and said so, {} refused; {} not as promised\n",
             outcomes.size(), exact, rounding, changed, refused, wrong);
  return wrong == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char** argv) {
  return study::run("preservation", [&] { return study_of(argc, argv); });
}
