// GpuFitCore chooses node and devices for tasks that ask for whole GPUs or a share of one.
//
// What is left on a node after a placement decides whether later tasks find room. The policies
// score every node a task fits on; the smallest score wins, ties by the order of the nodes:
//
//   kBestFit  least room left (cpu and GPU shares)
//   kFgdLike  least growth of fragmentation: the GPU share that tasks like those seen so far could
//             no longer use (after Weng et al., "Beware of Fragmentation", ATC 2023)
//   kReeve    the same growth plus a little best fit, and work without GPUs goes to nodes without
//
// Scores are cached per (node, shape) and recomputed only for nodes that changed.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

namespace reeve::sched {

inline constexpr std::size_t kNodeGpusMax = 16;

enum class GpuFitPolicy : std::uint8_t { kBestFit, kFgdLike, kReeve };
std::string_view to_string(GpuFitPolicy policy);
std::optional<GpuFitPolicy> parse_gpu_fit_policy(std::string_view name);

// What a task asks for. gpu_milli: of each GPU; below 1000 only with one GPU.
struct GpuShape {
    std::int64_t cpu_milli = 0;
    std::int64_t mem_mib = 0;
    std::uint32_t gpus = 0;
    std::uint32_t gpu_milli = 0;
    std::uint64_t models = 0;  // bit per GPU model; 0: any
    auto operator<=>(const GpuShape&) const = default;
};

// A node and what is free on it.
struct GpuNodeRoom {
    std::int64_t cpu_milli = 0;
    std::int64_t mem_mib = 0;
    std::uint32_t gpus = 0;
    std::uint32_t model = 0;
    std::array<std::uint16_t, kNodeGpusMax> free_milli{};
};

struct GpuChoice {
    std::uint32_t node = 0;
    std::uint32_t gpu_mask = 0;
};

class GpuFitCore {
public:
    GpuFitCore(std::vector<GpuNodeRoom> nodes, GpuFitPolicy policy);

    // Counts a task of the past, so that fragmentation is judged by what usually comes.
    void learn(const GpuShape& shape);
    // Chooses and claims; nullopt when the task fits nowhere. Learns the shape in any case.
    std::optional<GpuChoice> place(const GpuShape& shape);
    void release(const GpuChoice& choice, const GpuShape& shape);

    const std::vector<GpuNodeRoom>& nodes() const { return nodes_; }

private:
    struct Typical {
        GpuShape shape;
        double share;
    };
    struct Score {
        std::uint64_t version = 0;  // of the node; 0: never computed
        double value = 0;
        std::uint32_t gpu_mask = 0;
        bool fits = false;
    };

    static bool fits(const GpuNodeRoom& node, const GpuShape& shape);
    static std::int64_t free_total(const GpuNodeRoom& node);
    // Lowest-numbered GPUs with room, or the fullest one with room for a share.
    static std::uint32_t pick(const GpuNodeRoom& node, const GpuShape& shape);
    static void take(GpuNodeRoom& node, const GpuShape& shape, std::uint32_t mask);

    double fragments(const GpuNodeRoom& node) const;
    double left_over(const GpuNodeRoom& node, const GpuShape& shape) const;
    Score score(const GpuNodeRoom& node, const GpuShape& shape) const;
    Score score_fragments(const GpuNodeRoom& node, const GpuShape& shape) const;
    void settle_typical();

    std::vector<GpuNodeRoom> nodes_;
    GpuFitPolicy policy_;
    std::vector<std::uint64_t> versions_;
    std::map<GpuShape, std::uint64_t> seen_;
    std::map<GpuShape, std::vector<Score>> scores_;
    std::vector<Typical> typical_;
    std::uint64_t learned_ = 0;
    std::uint64_t settle_at_ = 1;
    std::int64_t cpu_most_ = 1;
    std::int64_t gpu_most_ = 1;
};

}  // namespace reeve::sched
