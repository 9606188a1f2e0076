// The users and groups of this machine, by number and by name. Thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace reeve {

// The name, or the number itself where nobody has it.
std::string user_name(std::uint32_t uid);

// A name, or else a number (of anybody, known here or not). nullopt: neither.
std::optional<std::uint32_t> user_id(const std::string& name);
std::optional<std::uint32_t> group_id(const std::string& name);

}  // namespace reeve
