// Which jobs a command line means: selectors resolved against shared memory, the history file and,
// where these do not know, the PLM.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/selectors.h"

namespace reeve::cli {

// kLive: `all` means jobs that have not ended; `name:` too, and ended ones where there are no
// others. kWait: `name:` means both. kKnown: ended ones always.
enum class Scope { kLive, kWait, kKnown };

// For GetRequest.limit: more than there can be, and positive as a signed number too.
inline constexpr std::uint32_t kAllJobs = 0x7FFF'FFFFU;

// At most so many ended jobs are looked through for `all` and `name:`.
inline constexpr std::size_t kCatalogueEndedMax = 1'000'000;

// Local first, so that it works with every daemon stopped. Errors as resolve()'s.
Result<std::vector<Selected>> select_jobs(const Context& context,
                                          const std::vector<Selector>& selectors, Scope scope);

}  // namespace reeve::cli
