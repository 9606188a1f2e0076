#include "common/shm/ring.h"

namespace reeve::shm {
namespace {

template <typename T>
std::uint64_t stride(std::uint64_t entries) {
    return (sizeof(RingHeader) + entries * sizeof(T) + 127) / 128 * 128;
}

template <typename T>
Ring<T> ring_at(const Segment& segment, std::uint64_t offset, std::uint64_t entries) {
    return Ring<T>(&segment.at<RingHeader>(offset, 0),
                   &segment.at<T>(offset + sizeof(RingHeader), 0), entries);
}

}  // namespace

EventRing event_ring(const Segment& segment, std::uint32_t index) {
    REEVE_ASSERT(index < event_ring_count(segment));
    const auto& config = segment.config();
    const auto role_stride = stride<Event>(config.role_event_ring);
    const auto base = segment.layout().event_rings;
    if (index < kEventRingFirstWorker) {
        return ring_at<Event>(segment, base + index * role_stride, config.role_event_ring);
    }
    const auto workers = base + kEventRingFirstWorker * role_stride;
    return ring_at<Event>(
        segment,
        workers + (index - kEventRingFirstWorker) * stride<Event>(config.worker_event_ring),
        config.worker_event_ring);
}

HintRing dispatch_ring(const Segment& segment, std::uint32_t worker_slot) {
    REEVE_ASSERT(segment.valid_worker(worker_slot));
    const auto entries = segment.config().dispatch_ring;
    return ring_at<SlotHint>(
        segment, segment.layout().dispatch_rings + worker_slot * stride<SlotHint>(entries),
        entries);
}

HintRing completion_ring(const Segment& segment, std::uint32_t worker_slot) {
    REEVE_ASSERT(segment.valid_worker(worker_slot));
    const auto entries = segment.config().completion_ring;
    return ring_at<SlotHint>(
        segment, segment.layout().completion_rings + worker_slot * stride<SlotHint>(entries),
        entries);
}

}  // namespace reeve::shm
