// Which number a named resource has in this segment (NamedCounts), and what a number is called.
//
// Workers bring names when they join. A name keeps its number as long as the segment lasts, so
// counts in shared memory need no text.
//
// Progress     lock-free: a failed CAS means somebody else took that place.
// Death        between the CAS of the hash and the text: the number is good, the text is written by
//              the next who asks for that name, a reader shows the number until then.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/wants.h"
#include "common/shm/segment.h"

namespace reeve::shm {

using ResourceNames = std::array<std::string, NamedCounts::kNamedMax>;

// Its number; nullopt: so many are known already.
std::optional<std::size_t> number_resource(const Segment& segment, std::string_view name);
// nullopt: nobody has needed it in this segment.
std::optional<std::size_t> find_resource(const Segment& segment, std::string_view name);
ResourceNames resource_names(const Segment& segment);

// All of them as counts. One that has no number fits nowhere; one that gets none any more: nullopt.
NamedCounts find_counts(const Segment& segment, const std::vector<NamedAmount>& amounts);
std::optional<NamedCounts> number_counts(const Segment& segment,
                                         const std::vector<NamedAmount>& amounts);

}  // namespace reeve::shm
