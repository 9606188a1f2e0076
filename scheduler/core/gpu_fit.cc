#include "scheduler/core/gpu_fit.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::array<std::pair<GpuFitPolicy, std::string_view>, 3> kNames{{
    {GpuFitPolicy::kBestFit, "best-fit"},
    {GpuFitPolicy::kFgdLike, "fgd-like"},
    {GpuFitPolicy::kReeve, "reeve"},
}};

constexpr double kCovered = 0.95;      // of all tasks seen, by the typical shapes
constexpr double kBestFitWeight = 50;  // kReeve: thousandths of a GPU per fully free node
constexpr double kKeepGpuNodes = 1e6;  // kReeve: work without GPUs avoids nodes with GPUs

}  // namespace

std::string_view to_string(GpuFitPolicy policy) {
    for (const auto& [value, name] : kNames) {
        if (value == policy) return name;
    }
    return "unknown";
}

std::optional<GpuFitPolicy> parse_gpu_fit_policy(std::string_view name) {
    for (const auto& [value, known] : kNames) {
        if (known == name) return value;
    }
    return std::nullopt;
}

GpuFitCore::GpuFitCore(std::vector<GpuNodeRoom> nodes, GpuFitPolicy policy)
    : nodes_(std::move(nodes)), policy_(policy), versions_(nodes_.size(), 1) {
    for (const GpuNodeRoom& node : nodes_) {
        REEVE_ASSERT(node.gpus <= kNodeGpusMax && node.model < 64);
        cpu_most_ = std::max(cpu_most_, node.cpu_milli);
        gpu_most_ = std::max(gpu_most_, free_total(node));
    }
}

bool GpuFitCore::fits(const GpuNodeRoom& node, const GpuShape& shape) {
    if (shape.cpu_milli > node.cpu_milli || shape.mem_mib > node.mem_mib) return false;
    if (shape.gpus == 0) return true;
    if (shape.models != 0 && (shape.models >> node.model & 1) == 0) return false;
    std::uint32_t found = 0;
    for (std::uint32_t i = 0; i < node.gpus; ++i) {
        found += node.free_milli[i] >= shape.gpu_milli ? 1U : 0U;
    }
    return found >= shape.gpus;
}

std::int64_t GpuFitCore::free_total(const GpuNodeRoom& node) {
    std::int64_t total = 0;
    for (std::uint32_t i = 0; i < node.gpus; ++i) total += node.free_milli[i];
    return total;
}

std::uint32_t GpuFitCore::pick(const GpuNodeRoom& node, const GpuShape& shape) {
    std::uint32_t mask = 0;
    if (shape.gpus == 1 && shape.gpu_milli < 1000) {
        std::uint32_t best = kNodeGpusMax;
        for (std::uint32_t i = 0; i < node.gpus; ++i) {
            if (node.free_milli[i] < shape.gpu_milli) continue;
            if (best == kNodeGpusMax || node.free_milli[i] < node.free_milli[best]) best = i;
        }
        return best == kNodeGpusMax ? 0 : 1U << best;
    }
    std::uint32_t need = shape.gpus;
    for (std::uint32_t i = 0; i < node.gpus && need > 0; ++i) {
        if (node.free_milli[i] < shape.gpu_milli) continue;
        mask |= 1U << i;
        --need;
    }
    return mask;
}

void GpuFitCore::take(GpuNodeRoom& node, const GpuShape& shape, std::uint32_t mask) {
    node.cpu_milli -= shape.cpu_milli;
    node.mem_mib -= shape.mem_mib;
    for (std::uint32_t i = 0; i < node.gpus; ++i) {
        if ((mask >> i & 1) == 0) continue;
        REEVE_ASSERT(node.free_milli[i] >= shape.gpu_milli);
        node.free_milli[i] = static_cast<std::uint16_t>(node.free_milli[i] - shape.gpu_milli);
    }
    REEVE_ASSERT(node.cpu_milli >= 0 && node.mem_mib >= 0);
}

// Thousandths of GPUs on this node that an average task of the past could not use.
double GpuFitCore::fragments(const GpuNodeRoom& node) const {
    const auto total = static_cast<double>(free_total(node));
    if (total == 0) return 0;
    double sum = 0;
    for (const Typical& typical : typical_) {
        if (typical.shape.gpus == 0 || !fits(node, typical.shape)) {
            sum += typical.share * total;
            continue;
        }
        std::int64_t unusable = 0;
        for (std::uint32_t i = 0; i < node.gpus; ++i) {
            if (node.free_milli[i] < typical.shape.gpu_milli) unusable += node.free_milli[i];
        }
        sum += typical.share * static_cast<double>(unusable);
    }
    return sum;
}

double GpuFitCore::left_over(const GpuNodeRoom& node, const GpuShape& shape) const {
    const std::int64_t gpu = free_total(node) - std::int64_t{shape.gpus} * shape.gpu_milli;
    return static_cast<double>(node.cpu_milli - shape.cpu_milli) / static_cast<double>(cpu_most_) +
           static_cast<double>(gpu) / static_cast<double>(gpu_most_);
}

GpuFitCore::Score GpuFitCore::score_fragments(const GpuNodeRoom& node,
                                              const GpuShape& shape) const {
    Score out;
    out.fits = true;
    const double before = fragments(node);
    const auto after = [&](std::uint32_t mask) {
        GpuNodeRoom then = node;
        take(then, shape, mask);
        return fragments(then) - before;
    };
    if (shape.gpus != 1 || shape.gpu_milli >= 1000) {
        out.gpu_mask = pick(node, shape);
        out.value = after(out.gpu_mask);
        return out;
    }
    for (std::uint32_t i = 0; i < node.gpus; ++i) {
        if (node.free_milli[i] < shape.gpu_milli) continue;
        const double value = after(1U << i);
        const bool fuller =
            out.gpu_mask != 0 && value == out.value &&
            node.free_milli[i] <
                node.free_milli[static_cast<std::size_t>(__builtin_ctz(out.gpu_mask))];
        if (out.gpu_mask == 0 || value < out.value || fuller) {
            out.value = value;
            out.gpu_mask = 1U << i;
        }
    }
    return out;
}

GpuFitCore::Score GpuFitCore::score(const GpuNodeRoom& node, const GpuShape& shape) const {
    Score out;
    if (!fits(node, shape)) return out;
    if (policy_ == GpuFitPolicy::kBestFit) {
        out.fits = true;
        out.gpu_mask = pick(node, shape);
        out.value = left_over(node, shape);
        return out;
    }
    out = score_fragments(node, shape);
    if (policy_ == GpuFitPolicy::kReeve) {
        out.value += kBestFitWeight * left_over(node, shape);
        if (shape.gpus == 0 && node.gpus > 0) out.value += kKeepGpuNodes;
    }
    return out;
}

void GpuFitCore::learn(const GpuShape& shape) {
    ++seen_[shape];
    ++learned_;
}

// The most frequent shapes that make up kCovered of all; settled again as more is learned, and all
// cached scores with them.
void GpuFitCore::settle_typical() {
    if (learned_ < settle_at_) return;
    settle_at_ = learned_ + std::max<std::uint64_t>(learned_ / 2, 16);
    typical_.clear();
    scores_.clear();
    std::vector<std::pair<std::uint64_t, GpuShape>> order;
    for (const auto& [shape, count] : seen_) order.emplace_back(count, shape);
    std::stable_sort(order.begin(), order.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    double covered = 0;
    for (const auto& [count, shape] : order) {
        const double share = static_cast<double>(count) / static_cast<double>(learned_);
        typical_.push_back(Typical{shape, share});
        covered += share;
        if (covered >= kCovered) break;
    }
}

std::optional<GpuChoice> GpuFitCore::place(const GpuShape& shape) {
    learn(shape);
    if (policy_ != GpuFitPolicy::kBestFit) settle_typical();
    std::vector<Score>& scores = scores_[shape];
    scores.resize(nodes_.size());
    std::optional<std::uint32_t> best;
    for (std::uint32_t i = 0; i < nodes_.size(); ++i) {
        Score& entry = scores[i];
        if (entry.version != versions_[i]) {
            entry = score(nodes_[i], shape);
            entry.version = versions_[i];
        }
        if (entry.fits && (!best || entry.value < scores[*best].value)) best = i;
    }
    if (!best) return std::nullopt;
    const GpuChoice choice{*best, scores[*best].gpu_mask};
    take(nodes_[*best], shape, choice.gpu_mask);
    ++versions_[*best];
    return choice;
}

void GpuFitCore::release(const GpuChoice& choice, const GpuShape& shape) {
    GpuNodeRoom& node = nodes_[choice.node];
    node.cpu_milli += shape.cpu_milli;
    node.mem_mib += shape.mem_mib;
    for (std::uint32_t i = 0; i < node.gpus; ++i) {
        if ((choice.gpu_mask >> i & 1) == 0) continue;
        node.free_milli[i] = static_cast<std::uint16_t>(node.free_milli[i] + shape.gpu_milli);
        REEVE_ASSERT(node.free_milli[i] <= 1000);
    }
    ++versions_[choice.node];
}

}  // namespace reeve::sched
