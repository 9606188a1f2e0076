// shm dump, stat, watch and check: the segment as it is, read-only, also with every daemon dead.
//
// Nothing here changes the segment or waits for anybody. Its contents are untrusted: a torn or
// garbled one is printed as far as it goes, and `check` says what is wrong with it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/context.h"
#include "common/shm/segment.h"

namespace reeve::cli {

struct ShmOptions {
    std::string segment;  // a name like /reeve-1a2b3c-1; "" for the cell's live one
    std::vector<std::string>
        sections;  // dump: header participants workers classes jobs tasks heaps rings
    double interval_seconds = 1;    // stat, watch
    std::uint64_t count = 1;        // stat: how often; 0: until interrupted
    std::uint64_t for_seconds = 0;  // watch; 0: until interrupted
};

int shm_dump_command(const Context& context, const ShmOptions& options);
int shm_stat_command(const Context& context, const ShmOptions& options);
int shm_watch_command(const Context& context, const ShmOptions& options);
int shm_check_command(const Context& context, const ShmOptions& options);

Result<std::unique_ptr<shm::Segment>> open_for(const Context& context, const ShmOptions& options);

// What is wrong with a segment, one line each; empty for a sound one. A living cell moves while it
// is looked at, so a finding counts only when it is there again (see check_settled).
struct Finding {
    std::string code;  // slot-state, slot-owner, heap-head, chunk-owner, used, ring, duplicate ...
    std::string text;
    bool operator==(const Finding&) const = default;
};
std::vector<Finding> check_segment(const shm::Segment& segment);
// The findings of `look` that stay for `looks` looks in a row.
std::vector<Finding> check_settled(const std::function<std::vector<Finding>()>& look, int looks,
                                   const std::function<void()>& pause);

std::string ring_name(std::uint32_t event_ring);

}  // namespace reeve::cli
