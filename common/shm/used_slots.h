// for_each_used_slot visits the slots of chunks that belong to a class: all others are free.
//
// A sweep over the whole table touches a cache line per slot (16 MiB for 65,536); most of it is
// free most of the time. A chunk taken into use during the walk may be missed: sweeps come again.
#pragma once

#include <cstdint>

#include "common/shm/segment.h"

namespace reeve::shm {

// visit(slot index, TaskSlot&)
template <typename Visit>
void for_each_used_slot(const Segment& segment, Visit&& visit) {
    for (std::uint32_t chunk = 0; chunk < segment.layout().chunks; ++chunk) {
        if (segment.chunk_owner(chunk).load(std::memory_order_seq_cst) == kNone32) continue;
        const auto first = chunk * kChunkSlots;
        for (auto slot = first; slot < first + kChunkSlots; ++slot) visit(slot, segment.task(slot));
    }
}

}  // namespace reeve::shm
