// cancel, hold, release, requeue, retry, update, node drain and undrain: requests to the PLM.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::cli {

struct ActOptions {
    v1::ActionKind action = v1::ACTION_CANCEL;
    std::vector<std::string> selectors;
    std::string reason;
    std::string priority;    // update
    std::string time_limit;  // update
};
int act_command(const Context& context, const ActOptions& options);

int drain_command(const Context& context, const std::string& worker, bool drain);
// It will vanish in so long ("" for at any moment).
int notice_command(const Context& context, const std::string& worker, const std::string& in);

}  // namespace reeve::cli
