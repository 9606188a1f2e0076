// What a JobSpec wants of a worker, as the plain struct that placement reads.
#pragma once

#include <algorithm>

#include "common/model/wants.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::rpc {

inline SlaClass sla_of(v1::SlaClass sla) {
    switch (sla) {
        case v1::SLA_CRITICAL:
            return SlaClass::kCritical;
        case v1::SLA_FLEXIBLE:
            return SlaClass::kFlexible;
        case v1::SLA_SPOT:
            return SlaClass::kSpot;
        default:
            return SlaClass::kStandard;
    }
}

inline Wants wants_of(const v1::JobSpec& spec) {
    Wants wants;
    wants.sla = sla_of(spec.sla());
    wants.spread = spec.spread();
    wants.max_price_micro = spec.max_price_micro();
    wants.node_name = spec.node_name();
    wants.labels.assign(spec.node_labels().begin(), spec.node_labels().end());
    std::sort(wants.labels.begin(), wants.labels.end());
    wants.labels.erase(std::unique(wants.labels.begin(), wants.labels.end()), wants.labels.end());
    for (const auto& each : spec.resources()) {
        wants.resources.push_back({each.name(), std::max(each.count(), 1U)});
    }
    std::sort(wants.resources.begin(), wants.resources.end());
    return wants;
}

inline v1::SlaClass sla_field(SlaClass sla) {
    switch (sla) {
        case SlaClass::kCritical:
            return v1::SLA_CRITICAL;
        case SlaClass::kFlexible:
            return v1::SLA_FLEXIBLE;
        case SlaClass::kSpot:
            return v1::SLA_SPOT;
        case SlaClass::kStandard:
            break;
    }
    return v1::SLA_STANDARD;
}

}  // namespace reeve::rpc
