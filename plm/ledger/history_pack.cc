#include "plm/ledger/history_pack.h"

#include <algorithm>

namespace reeve::plm {
namespace {

// A reader of one result reads all of its pack.
constexpr std::size_t kPackResultBytesMax = 256 << 10;

bool fits(const Pack& pack, const HistoryRows& rows, const EndedRow& row) {
    return pack.as == row.as && pack.worker_name == rows.text(row.worker_name) &&
           pack.detail == rows.text(row.detail) &&
           (pack.results.empty() || pack.results.size() + row.result.size <= kPackResultBytesMax);
}

void add_to(Pack& pack, const HistoryRows& rows, const EndedRow& row) {
    PackedRow packed;
    packed.element = row.element % kPackedBlock;
    packed.assigned_ns = row.assigned_ns;
    packed.started_ns = row.started_ns;
    packed.ended_ns = row.ended_ns;
    packed.result_at = row.result.size == 0 ? 0 : pack.results.size();
    packed.result_size = row.result.size;
    packed.user_us = row.user_us;
    packed.system_us = row.system_us;
    packed.max_rss_bytes = row.max_rss_bytes;
    append_packed_row(pack.rows, row.as.submit_ns, packed);
    pack.results.append(rows.text(row.result));
    pack.elements.add(packed.element);
    const bool begun = pack.count++ > 0;
    pack.first = begun ? std::min(pack.first, packed.element) : packed.element;
    pack.last = begun ? std::max(pack.last, packed.element) : packed.element;
    pack.first_end_ns = begun ? std::min(pack.first_end_ns, row.ended_ns) : row.ended_ns;
    pack.last_end_ns = std::max(pack.last_end_ns, row.ended_ns);
}

}  // namespace

bool PackBuilder::add(const HistoryRows& rows, const EndedRow& row) {
    const Place place{row.job, row.element / kPackedBlock};
    auto& newest = newest_[place];
    Pack* found = nullptr;
    for (auto index = newest; index != 0; index = packs_[index - 1].next) {
        auto& pack = packs_[index - 1];
        if (pack.as.attempt == row.as.attempt && pack.elements.has(row.element % kPackedBlock)) {
            return false;
        }
        if (found == nullptr && fits(pack, rows, row)) found = &pack;
    }
    if (found == nullptr) {
        found = &packs_.emplace_back();
        found->next = newest;
        newest = static_cast<std::uint32_t>(packs_.size());
        found->job = row.job;
        found->block = place.block;
        found->as = row.as;
        found->worker_name = rows.text(row.worker_name);
        found->detail = rows.text(row.detail);
    }
    add_to(*found, rows, row);
    return true;
}

void PackBuilder::clear() {
    packs_.clear();
    newest_.clear();
}

}  // namespace reeve::plm
