// Action is what a person asked to be done to jobs, and how far the core got with it.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "plm/core/act_result.h"
#include "plm/server/backend.h"

namespace reeve::plm {

using Stretches = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // first, last ordinal

// How the elements of a cancelled job that are still in its run are recorded.
struct RestOfRun {
    Stretches together;  // by one entry on the header
    Stretches singly;    // each element by entries of its own
};

struct Action {
    Identity who;
    v1::ActRequest request;
    Done<v1::ActReply> done;

    v1::ActReply reply{};
    int selection = 0;     // under way
    bool begun = false;    // it was found fit
    int range = 0;         // of its elements
    std::uint64_t at = 0;  // the next element; of a whole job the next ordinal
    v1::ActResult result{};
    RefusedElements refused{};
    std::optional<RestOfRun> rest{};  // of a cancelled job whose tasks were seen to

    void next_selection() {
        ++selection;
        begun = false;
        range = 0;
        at = 0;
        result.Clear();
        refused.clear();
        rest.reset();
    }
};

}  // namespace reeve::plm
