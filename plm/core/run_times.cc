#include "plm/core/run_times.h"

#include <algorithm>
#include <bit>

namespace reeve::plm {
namespace {

// FNV-1a: part of what snapshots keep, so it is the same on every machine.
std::uint64_t fnv(std::uint64_t hash, std::string_view bytes) {
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
    return hash;
}

sched::RunKey key_of(const WorkKind& kind) {
    const std::uint64_t numbers[] = {kind.request.cpu_milli, kind.request.gpus,
                                     kind.request.memory_bytes};
    std::uint64_t size = 0xCBF29CE484222325ULL;
    for (const auto number : numbers) size = (size ^ number) * 0x9E3779B97F4A7C15ULL;
    const auto name = fnv(0xCBF29CE484222325ULL, kind.name);
    return {kind.uid, static_cast<std::int64_t>(size >> 1), 1,
            static_cast<std::int64_t>(name >> 1)};
}

}  // namespace

void RunTimes::learn(const WorkKind& kind, Outcome outcome, std::uint64_t started_ns,
                     std::uint64_t ended_ns) {
    const bool by_itself = outcome == Outcome::kSucceeded || outcome == Outcome::kTimedOut;
    if (!by_itself || started_ns == 0 || ended_ns <= started_ns) return;
    predictor_.note(key_of(kind), static_cast<double>(ended_ns - started_ns) / 1e9);
}

std::optional<double> RunTimes::expected_s(const WorkKind& kind,
                                           std::uint64_t time_limit_ns) const {
    if (predictor_.empty()) return std::nullopt;
    const auto known = predictor_.known(key_of(kind));
    if (!known || time_limit_ns == 0) return known;
    return std::min(*known, static_cast<double>(time_limit_ns) / 1e9);
}

void RunTimes::save(ByteWriter& out) const {
    std::uint64_t count = 0;
    predictor_.for_each([&count](const auto&, const auto&, bool) { ++count; });
    out.put(count);
    predictor_.for_each([&out](const auto& key, const auto& history, bool young) {
        out.put(static_cast<std::uint8_t>(young));
        for (const auto part : key) out.put(static_cast<std::uint64_t>(part));
        out.put(static_cast<std::uint64_t>(history.count));
        for (const auto run : history.last) out.put(std::bit_cast<std::uint64_t>(run));
    });
}

void RunTimes::load(ByteReader& in) {
    predictor_ = sched::RunTimePredictor(kKindsMax);
    const auto count = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
        const bool young = in.get<std::uint8_t>() != 0;
        sched::RunTimePredictor::Key key{};
        sched::RunTimePredictor::History history;
        for (auto& part : key) part = static_cast<std::int64_t>(in.get<std::uint64_t>());
        history.count = in.get<std::uint64_t>();
        for (auto& run : history.last) run = std::bit_cast<double>(in.get<std::uint64_t>());
        if (in.ok() && history.count > 0) predictor_.restore(key, history, young);
    }
}

}  // namespace reeve::plm
