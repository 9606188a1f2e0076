#include "scheduler/core/parked_shapes.h"

#include <limits>

namespace reeve::sched {

// The tree compares memory in MiB, so the complement stays on a MiB boundary plus the remainder;
// the exact comparison at the leaf is done on the complements themselves.
Resources ParkedShapes::negate(const Resources& value) {
    constexpr std::uint32_t kMost32 = std::numeric_limits<std::int32_t>::max() - 1;
    constexpr std::uint64_t kMost64 = std::uint64_t{kMost32} << 20;
    Resources out;
    out.cpu_milli = value.cpu_milli > kMost32 ? 0 : kMost32 - value.cpu_milli;
    out.gpus = value.gpus > kMost32 ? 0 : kMost32 - value.gpus;
    out.memory_bytes = value.memory_bytes > kMost64 ? 0 : kMost64 - value.memory_bytes;
    constexpr auto kMostNamed = NamedCounts::kTop - 0x0101'0101'0101'0101ULL;  // 127 of each
    out.named.bytes = value.named.fits_nowhere() ? 0 : kMostNamed - value.named.bytes;
    return out;
}

// The next few are looked at: with so many, most have nobody parked any more.
std::optional<std::uint32_t> ParkedShapes::unused_shape() {
    if (shapes_.size() < kShapesKept) return std::nullopt;
    for (int looked = 0; looked < 8; ++looked) {
        next_looked_ = (next_looked_ + 1) % static_cast<std::uint32_t>(shapes_.size());
        if (shapes_[next_looked_].classes.empty()) return next_looked_;
    }
    return std::nullopt;
}

std::uint32_t ParkedShapes::shape_index(const ClassShape& shape) {
    const auto known = index_of_.find(shape);
    if (known != index_of_.end()) return known->second;
    if (const auto unused = unused_shape()) {
        index_of_.erase(shapes_[*unused].shape);
        shapes_[*unused].shape = shape;
        index_of_.emplace(shape, *unused);
        return *unused;
    }
    const auto [it, fresh] =
        index_of_.try_emplace(shape, static_cast<std::uint32_t>(shapes_.size()));
    if (fresh) {
        shapes_.push_back(Shape{shape, {}});
        if (tree_.size() < shapes_.size()) {
            tree_.resize(static_cast<std::uint32_t>(shapes_.size()) * 2);
        }
    }
    return it->second;
}

bool ParkedShapes::park(ClassRef cls, const ClassShape& shape) {
    if (parked(cls)) return false;
    if (cls >= where_.size()) where_.resize(std::size_t{cls} + 1);
    const std::uint32_t index = shape_index(shape);
    Shape& entry = shapes_[index];
    where_[cls] = Place{index, static_cast<std::uint32_t>(entry.classes.size())};
    entry.classes.push_back(cls);
    if (entry.classes.size() == 1) tree_.open(index, negate(shape.request));
    ++parked_;
    return true;
}

bool ParkedShapes::remove(ClassRef cls) {
    if (!parked(cls)) return false;
    const Place place = where_[cls];
    auto& classes = shapes_[place.shape].classes;
    const ClassRef last = classes.back();
    classes[place.position] = last;
    where_[last].position = place.position;
    classes.pop_back();
    where_[cls] = Place{};
    if (classes.empty()) tree_.close(place.shape);
    --parked_;
    return true;
}

void ParkedShapes::empty_shape(std::uint32_t index) {
    Shape& entry = shapes_[index];
    for (const ClassRef cls : entry.classes) where_[cls] = Place{};
    parked_ -= entry.classes.size();
    entry.classes.clear();
    tree_.close(index);
}

}  // namespace reeve::sched
