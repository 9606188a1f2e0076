// Selectors name jobs and tasks on the command line.
//
//   12        a job                 1-5      jobs 1 to 5
//   12.3      one element           12.3-7   elements 3 to 7
//   @         the last job          @~1      the one before it
//   all       every one             name:GLOB   jobs whose name matches (* ? [a-z])
//
// Several may be given, also with commas: `12,14.3 @`. parse_selectors() is pure; resolve() needs
// to know which jobs exist.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/units.h"
#include "common/base/result.h"

namespace reeve::cli {

struct Selector {
    enum class Kind { kJobs, kLast, kAll, kName } kind = Kind::kJobs;
    Range jobs;                   // kJobs
    std::vector<Range> elements;  // of the one job; empty: all of it
    std::uint64_t back = 0;       // kLast: @~back
    std::string glob;             // kName
    std::string text;             // as written
};

Result<Selector> parse_selector(std::string_view text);
Result<std::vector<Selector>> parse_selectors(const std::vector<std::string>& words);

// What resolve() asks: the newest id, and the jobs `all` and `name:` can mean.
struct KnownJob {
    std::uint64_t job = 0;
    std::string name;
    bool ended = false;
};
// Whether ended jobs are meant. `all` has none of them but with kAlways; `name:` has them too with
// kNamed, and with kOtherwise where it would mean nothing else.
enum class Ended { kAlways, kNamed, kOtherwise };
struct Catalogue {
    std::uint64_t last_job = 0;
    std::vector<KnownJob> jobs;  // ascending
    Ended ended = Ended::kAlways;
};

struct Selected {
    std::uint64_t job = 0;
    std::vector<Range> elements;  // empty: all
    bool operator==(const Selected&) const = default;
};

// True when some selector cannot be resolved without a catalogue.
bool needs_catalogue(const std::vector<Selector>& selectors);

// In ascending order, each job once (elements merged). A range is cut to catalogue.last_job when
// that is known. Errors: kNotFound naming the selector that matches nothing.
Result<std::vector<Selected>> resolve(const std::vector<Selector>& selectors,
                                      const Catalogue& catalogue);

// At most so many jobs are named by one command line.
inline constexpr std::uint64_t kSelectedMax = 10'000'000;

bool contains(const Selected& selected, std::uint64_t element);

}  // namespace reeve::cli
