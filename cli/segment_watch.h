// SegmentWatch keeps a read-only mapping of a cell's live segment and follows it across rebuilds.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/process/cell.h"
#include "common/role/role.h"
#include "common/shm/segment.h"

namespace reeve::cli {

class SegmentWatch {
public:
    explicit SegmentWatch(const Cell& cell) : cell_(cell) {}

    // The live segment, or nullptr while there is none that is ready. Valid until the next call.
    const shm::Segment* current() {
        if (segment_ != nullptr && hold_->holds()) return segment_.get();
        segment_.reset();
        auto name = read_segment_name(cell_);
        if (!name) return nullptr;
        auto opened = shm::Segment::open(*name, false);
        if (!opened) return nullptr;
        if ((*opened)->retired()) return nullptr;
        segment_ = std::move(*opened);
        hold_.emplace(cell_, *segment_);
        return segment_.get();
    }

private:
    Cell cell_;
    std::unique_ptr<shm::Segment> segment_;
    std::optional<SegmentHold> hold_;
};

}  // namespace reeve::cli
