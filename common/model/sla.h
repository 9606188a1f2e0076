// The service class of a job: how urgent it is, and whether it may run where the machine can
// vanish.
//
// The numbers are part of the segment and of history.db. docs/policy.md has what each is worth.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace reeve {

enum class SlaClass : std::uint8_t { kCritical = 0, kStandard = 1, kFlexible = 2, kSpot = 3 };

inline constexpr SlaClass kSlaClasses[] = {SlaClass::kCritical, SlaClass::kStandard,
                                           SlaClass::kFlexible, SlaClass::kSpot};

inline std::string_view to_string(SlaClass sla) {
    switch (sla) {
        case SlaClass::kCritical:
            return "critical";
        case SlaClass::kStandard:
            return "standard";
        case SlaClass::kFlexible:
            return "flexible";
        case SlaClass::kSpot:
            return "spot";
    }
    return "unknown";
}

inline std::optional<SlaClass> parse_sla(std::string_view name) {
    for (const SlaClass sla : kSlaClasses) {
        if (name == to_string(sla)) return sla;
    }
    return std::nullopt;
}

}  // namespace reeve
