// Audit entries as the ledger keeps them: what an entry has in common with the one before it of the
// same kind is left out, which leaves a quarter of them. The bytes come back exactly. Pure.
//
// Per entry: its kind (u8), a mask (u16 LE), what the mask names, in this order. Bit i < 12: the
// i-th eight bytes of the header differ and follow. Bit 12: the detail differs and follows; its
// length is in the header. The entry before the first of a kind is all zeros, without detail.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace reeve::plm {

// Appends `count` entries given in bundle form (common/audit/log.h).
void pack_entries(std::string& out, std::string_view bundle, std::uint32_t count);
// kDataLoss when the bytes are not `count` packed entries.
Result<std::vector<std::string>> unpack_entries(std::string_view packed, std::uint32_t count);

}  // namespace reeve::plm
